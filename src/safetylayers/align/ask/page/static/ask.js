// Keys press the buttons that name them. Nothing is sent twice, and a key that is held down does not answer what comes next.
"use strict";

let sent = false;

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input")) return;
  const buttons = [...document.querySelectorAll("button[data-key]")];
  const pressed = buttons.find((button) => button.dataset.key === event.key.toLowerCase());
  if (pressed) {
    event.preventDefault();
    pressed.click();
  }
});

document.addEventListener("submit", (event) => {
  if (sent) event.preventDefault();
  sent = true;
});

window.addEventListener("pageshow", (event) => {
  if (event.persisted) sent = false; // somebody went back to it
});
