//! Makes a config from its sources: the defaults, a file over them, and environment variables over that.
//!
//! Serves the program, whose flags count more than all of these, and which has to say where a value came from. The library
//! alone, in [`Config::from_file`], knows no variables.

use std::path::Path;

use super::Config;
use super::error::{ConfigError, Invalid};
use super::position::is_written_in;
use super::provenance::Provenances;
use super::variables::Variables;
use crate::text;

/// The sources of a config, besides the defaults.
pub struct Sources {
    file: Option<SourceFile>,
    variables: Variables,
}

/// A config file that was read.
struct SourceFile {
    /// The path of the file, as the user gave it.
    name: String,
    text: String,
}

impl Sources {
    /// Reads a file, if there is one, and takes the variables.
    ///
    /// # Errors
    ///
    /// - [`ConfigError::Unreadable`], when the system can't read the file.
    /// - [`ConfigError::TooLong`], when the file is too long for a config.
    /// - [`ConfigError::Invalid`], when the file is no text.
    pub fn read(file: Option<&Path>, variables: Variables) -> Result<Sources, ConfigError> {
        let file = match file {
            Some(path) => Some(SourceFile::read(path)?),
            None => None,
        };
        Ok(Sources { file, variables })
    }

    /// Returns the valid config that the sources make together. A value of the file that is wrong may be replaced by a
    /// variable, unless the file can't be parsed.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] for the first mistake, with the variable, or with the key and the line of the file, and a
    /// message that says what to write instead.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let config = match &self.file {
            Some(file) => Config::parse(&file.text, &file.name)?,
            None => Config::default(),
        };
        let config = self.variables.apply(config)?;
        config.check().map_err(|invalid| self.locate(invalid))?;
        Ok(config)
    }

    /// Returns where the values of the sources are.
    pub fn provenances(&self) -> Provenances {
        let file = self.file.as_ref();
        Provenances::new(file.map(|file| (&*file.name, &*file.text)), &self.variables)
    }

    /// Creates the error of a value that is valid, but turned out to be unusable when the stack was started with it.
    pub fn unusable(&self, key: &str, why: impl ToString) -> ConfigError {
        self.locate(Invalid {
            key: key.into(),
            message: why.to_string(),
            rival: None,
        })
    }

    /// Returns the name of the variable that sets a key, if one does.
    pub fn variable(&self, key: &str) -> Option<&str> {
        self.variables.name_for(key)
    }

    /// Locates a mistake. If two keys are wrong together, the one whose source counts more is named first.
    fn locate(&self, mut invalid: Invalid) -> ConfigError {
        let text = self.file.as_ref().map_or("", |file| &file.text);
        let rank = |key: &str| match self.variables.name_for(key) {
            Some(_) => 2,
            None => u8::from(is_written_in(text, key)),
        };
        if let Some(rival) = &mut invalid.rival
            && rank(rival) > rank(&invalid.key)
        {
            std::mem::swap(&mut invalid.key, rival);
        }
        let variable = self.variables.name_for(&invalid.key);
        let variable = variable.or_else(|| {
            let is_in_file = rank(&invalid.key) > 0;
            let variable = self.variables.name_without_index(&invalid.key);
            variable.filter(|_| !is_in_file)
        });
        match (variable, &self.file) {
            (Some(name), _) => ConfigError::of_variable(name, invalid.message()),
            (None, Some(file)) => ConfigError::invalid(invalid, &file.text, &file.name),
            (None, None) => invalid.into(),
        }
    }
}

impl SourceFile {
    fn read(path: &Path) -> Result<SourceFile, ConfigError> {
        let name = path.display().to_string();
        let bytes = ConfigError::read_file(path)?;
        let text = text::read_lines(&bytes).map_err(|error| ConfigError::not_text(error, &name))?;
        let text = text.to_owned();
        Ok(SourceFile { name, text })
    }
}
