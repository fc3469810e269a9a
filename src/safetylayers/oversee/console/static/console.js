// Keeps parts of a page up to date, counts deadlines down, and makes scores readable by keyboard.
// Everything that can be done works without it, the stop first of all.
//
// Parts are asked for one by one, and not streamed: a browser opens six connections to a server, and a stop must not
// wait for pages that keep theirs.
"use strict";
(() => {
  const REST_MS = 15 * 60 * 1000; // without a touch for so long, nothing is asked: the session is to end by itself
  const PATIENCE_MS = 5000;
  const title = document.title;
  let touched = Date.now();
  let heard = Date.now();

  for (const kind of ["pointerdown", "pointermove", "keydown", "focusin", "wheel"]) {
    addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
  }

  // ---- parts that stay up to date -------------------------------------------------------------------------------

  const inUse = (part) => {
    const field = document.activeElement;
    if (part.contains(field) && field.matches("input, textarea, select, button")) return true;
    if ([...part.querySelectorAll("input")].some((typed) => typed.value !== typed.defaultValue)) return true;
    const chosen = getSelection();
    return Boolean(chosen) && !chosen.isCollapsed && part.contains(chosen.anchorNode);
  };

  const replace = (part, html) => {
    const open = [...part.querySelectorAll("details[open][id]")].map((found) => found.id);
    const focused = part.contains(document.activeElement) ? pathTo(part, document.activeElement) : null;
    part.innerHTML = html; // escaped by the server's templates, like the page itself
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused) refocus(followPath(focused));
    tell(part.querySelector(".scored [title]:hover"));
    countDown();
    headline();
  };

  // Where an element is: the nearest one with an id, and its place among the children there; -1 for that one itself.
  const pathTo = (part, element) => {
    const owner = element.closest("[id]");
    return part.contains(owner) ? { id: owner.id, place: [...owner.children].indexOf(element) } : null;
  };
  const followPath = ({ id, place }) => {
    const owner = document.getElementById(id);
    return owner?.children[place] ?? owner;
  };

  const refocus = (element) => {
    if (!element) return;
    if (element.matches(".scored [title]")) element.tabIndex = -1;
    element.focus({ preventScroll: true });
    tell(element);
  };

  const refresh = async (part) => {
    part.classList.toggle("paused", inUse(part));
    if (document.hidden || inUse(part)) return;
    try {
      const answer = await fetch(part.dataset.live, { redirect: "error", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (answer.status === 401) {
        location.assign(`/console/login?next=${encodeURIComponent(location.pathname)}`);
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      const html = await answer.text();
      heard = Date.now();
      lost("");
      if (html !== part.shown && !inUse(part)) {
        part.shown = html;
        replace(part, html);
      }
    } catch {
      lost(`No word from the gateway since ${new Date(heard).toLocaleTimeString()}: what you see is old.`);
    }
  };

  const lost = (text) => {
    const told = document.getElementById("lost");
    if (!told || told.textContent === text) return;
    told.textContent = text;
    told.hidden = text === "";
  };

  const follow = async (part) => {
    const every = Number(part.dataset.every) * 1000;
    for (;;) {
      await new Promise((go) => { setTimeout(go, every); });
      if (Date.now() - touched < REST_MS) await refresh(part);
      else lost("Updates rest, because nobody is here. Move the pointer or press a key to go on.");
    }
  };

  // ---- what the browser's tab says ------------------------------------------------------------------------------

  const headline = () => {
    const { mode, waiting } = document.querySelector("#status [data-mode]")?.dataset ?? {};
    const marks = [mode && mode !== "run" ? mode.toUpperCase() : "", Number(waiting) ? `(${waiting})` : ""];
    document.title = [...marks.filter(Boolean), title].join(" ");
  };

  const countDown = () => {
    for (const shown of document.querySelectorAll("[data-left]")) {
      shown.ends ??= Date.now() + Number(shown.dataset.left) * 1000; // by this machine's clock, whatever it shows
      const seconds = Math.max(0, Math.round((shown.ends - Date.now()) / 1000));
      shown.textContent = `${seconds} s`;
      shown.classList.toggle("urgent", seconds <= 20);
    }
  };

  // ---- scores, by pointer and by keyboard -----------------------------------------------------------------------

  const tell = (token) => {
    const reading = token?.closest(".scored")?.parentElement.querySelector(".reading");
    if (reading && token.title) reading.textContent = `${token.textContent.trim() || "(space)"}: ${token.title}`;
  };

  const step = (event) => {
    const text = event.target.closest?.(".scored");
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!text || !by || event.ctrlKey || event.altKey || event.metaKey) return;
    const tokens = [...text.querySelectorAll("[title]")];
    const here = tokens.indexOf(event.target);
    const next = tokens[here < 0 ? (by > 0 ? 0 : tokens.length - 1) : Math.min(Math.max(here + by, 0), tokens.length - 1)];
    if (!next) return;
    event.preventDefault();
    refocus(next);
  };

  addEventListener("keydown", step);
  addEventListener("pointerover", (event) => {
    if (event.target.matches?.(".scored [title]")) tell(event.target);
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const open = event.target.closest?.("details[open]") ?? document.querySelector("#stop[open]");
    if (!open) return;
    open.removeAttribute("open");
    open.querySelector("summary")?.focus();
  });

  // The stop is one click away, and its button a key away from there.
  const stop = document.getElementById("stop");
  stop?.addEventListener("toggle", () => { if (stop.open) stop.querySelector("button").focus(); });

  for (const part of document.querySelectorAll("[data-live]")) follow(part);
  setInterval(countDown, 1000);
  countDown();
  headline();
})();
