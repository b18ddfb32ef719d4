//! A build without a cargo feature refuses a config that asks for the part, and serves any other. A build with the feature
//! takes the same config.

use imd::{Client, Config, Imd, StartError};

/// Returns the error of a config, or none where this build takes it.
fn refused(toml: &str) -> Option<String> {
    let read = Config::from_toml(toml, "imd.toml");
    read.err().map(|error| error.to_string())
}

#[test]
fn a_config_that_asks_for_a_missing_part_is_refused_by_key_line_and_feature() {
    let (durable, admin) = (cfg!(feature = "durable"), cfg!(feature = "admin"));
    let tls = cfg!(feature = "tls");
    for (toml, feature, is_built, place) in [
        (
            "[store]\npath = \"data\"\n",
            "durable",
            durable,
            "imd.toml:2: store.path: ",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:0\"\n",
            "admin",
            admin,
            "imd.toml:2: admin.listen: ",
        ),
        (
            "[admin]\nenabled = true\n",
            "admin",
            admin,
            "imd.toml:1: admin.listen: ",
        ),
        ("[admin]\n", "admin", admin, "imd.toml:1: admin.listen: "),
        (
            "[tls]\nlocal_ca = true\n",
            "tls",
            tls,
            "imd.toml:2: tls.local_ca: ",
        ),
        (
            "[tls]\nkey = \"key.pem\"\ncert = \"cert.pem\"\n",
            "tls",
            tls,
            "imd.toml:3: tls.cert: ",
        ),
    ] {
        let Some(error) = refused(toml) else {
            assert!(is_built, "{toml}");
            continue;
        };
        assert!(!is_built, "{error}");
        assert!(error.starts_with(place), "{error}");
        assert!(
            error.contains(&format!("without the cargo feature {feature:?}")),
            "{error}"
        );
    }
    for toml in [
        "",
        "[admin]\nenabled = false\nlisten = \"127.0.0.1:0\"\n",
        "[store]\nkeep = \"1h\"\n",
        "[tls]\n",
    ] {
        assert_eq!(refused(toml), None, "{toml}");
    }
}

#[tokio::test]
async fn a_start_refuses_a_config_that_a_program_has_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut durable = Config::ephemeral();
    durable.store.path = Some(folder.path().join("data"));
    let mut admin = Config::ephemeral();
    admin.admin.enabled = true;
    for (config, is_built, key) in [
        (durable, cfg!(feature = "durable"), "store.path: "),
        (admin, cfg!(feature = "admin"), "admin.listen: "),
    ] {
        match Imd::start(config).await {
            Ok(imd) => {
                assert!(is_built, "{key}");
                imd.shutdown().await;
            }
            Err(StartError::Config(error)) => {
                let error = error.to_string();
                assert!(!is_built && error.starts_with(key), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn the_defaults_are_served_by_every_build() {
    let imd = Imd::start(Config::ephemeral()).await.unwrap();
    assert_eq!(imd.admin_addr().is_some(), cfg!(feature = "admin"));
    let mut ann = Client::connect(imd.gateway_addr()).await.unwrap();
    ann.login(1, &imd.token(1)).await.unwrap();
    ann.send_p2p(1, "hello").await.unwrap();
    assert_eq!(ann.sync(0, 0).await.unwrap().messages[0].text, "hello");
    imd.shutdown().await;
}
