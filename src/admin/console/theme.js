// Sets the theme that the user has chosen, before anything is painted. Without a choice, that of the system applies.
(() => {
  const chosen = localStorage.getItem("imd.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
