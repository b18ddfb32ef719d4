// Before anything is painted: the theme that was chosen, if one was. Without one, the system's holds.
(() => {
  const chosen = localStorage.getItem("imd.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
