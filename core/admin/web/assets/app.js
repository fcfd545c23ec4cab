// What the pages gain from a script: copying, times that go on, keys, colours, and word of a host that is away. Everything
// works without it.
"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const one = (selector, root = document) => root.querySelector(selector);
  const store = {
    get(name) { try { return localStorage.getItem(name); } catch { return null; } },
    set(name, value) { try { localStorage.setItem(name, value); } catch { /* a browser that keeps nothing */ } },
  };

  // Times: ago says it as funcs.go does.
  const span = (ms) => {
    if (ms < 60e3) return Math.floor(ms / 1e3) + " s";
    if (ms < 3600e3) return Math.floor(ms / 60e3) + " min";
    if (ms < 48 * 3600e3) {
      const h = Math.floor(ms / 3600e3), m = Math.floor(ms % 3600e3 / 60e3);
      return h >= 10 || m === 0 ? h + " h" : h + " h " + m + " min";
    }
    return Math.floor(ms / (24 * 3600e3)) + " days";
  };
  const ago = (ms) => Math.abs(ms) < 1e3 ? "now" : ms < 0 ? "in " + span(-ms) : span(ms) + " ago";
  // The clocks of browser and host may differ: the page says when the host made it.
  const made = one(".foot time");
  const skew = made ? Date.now() - Date.parse(made.dateTime) : 0;
  const tick = () => all("time[datetime]").forEach((t) => {
    const text = ago(Date.now() - skew - Date.parse(t.dateTime));
    if (t.textContent !== text) t.textContent = text;
  });
  setInterval(tick, 1000);

  // Copying.
  const canCopy = Boolean(navigator.clipboard);
  const copy = async (button) => {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  };
  const prepare = (root) => {
    if (canCopy) all(".copy[hidden]", root).forEach((b) => { b.hidden = false; });
  };
  document.addEventListener("click", (e) => {
    const b = e.target.closest("[data-copy]");
    if (b) copy(b).catch(() => { b.textContent = "not copied"; });
  });
  document.addEventListener("htmx:load", (e) => prepare(e.detail.elt));
  prepare(document);

  // Colours: as the browser, light, dark. The host reads the cookie, so that no page flashes.
  const themes = ["", "light", "dark"], signs = { "": "◐", light: "☀", dark: "☾" };
  const themeButton = one("[data-theme-button]");
  const showTheme = () => {
    const now = document.documentElement.dataset.theme || "";
    themeButton.textContent = signs[now];
    themeButton.setAttribute("aria-label", "Colours: " + (now || "as the browser"));
    themeButton.title = themeButton.getAttribute("aria-label");
  };
  if (themeButton) {
    themeButton.hidden = false;
    showTheme();
    themeButton.addEventListener("click", () => {
      const now = document.documentElement.dataset.theme || "";
      const next = themes[(themes.indexOf(now) + 1) % themes.length];
      if (next) document.documentElement.dataset.theme = next;
      else delete document.documentElement.dataset.theme;
      document.cookie = "theme=" + next + "; path=/; samesite=strict; max-age=" + (next ? 31536000 : 0);
      showTheme();
    });
  }

  // Keys. They may be turned off, for those whose speech input types letters.
  const help = one("#help"), helpButton = one("[data-help-button]"), keysSwitch = one("[data-keys-switch]");
  if (helpButton && help) {
    helpButton.hidden = false;
    helpButton.addEventListener("click", () => help.showModal());
    keysSwitch.checked = store.get("keys") !== "off";
    keysSwitch.addEventListener("change", () => store.set("keys", keysSwitch.checked ? "on" : "off"));
  }
  const rows = () => all("main [data-row]");
  const choose = (step) => {
    const list = rows();
    if (!list.length) return;
    const at = list.findIndex((r) => r.classList.contains("chosen"));
    const to = list[Math.min(list.length - 1, Math.max(0, at < 0 ? 0 : at + step))];
    list.forEach((r) => r.classList.toggle("chosen", r === to));
    const link = one("a[href]", to);
    if (link) link.focus({ preventScroll: true });
    to.scrollIntoView({ block: "nearest" });
  };
  let went = 0; // when g was pressed
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented) return;
    if (keysSwitch && !keysSwitch.checked) return;
    if (e.target.closest("input, textarea, select, [contenteditable]") || one("dialog[open]")) return;
    if (Date.now() - went < 1500) {
      went = 0;
      const link = one('.places a[data-key="' + CSS.escape(e.key) + '"]');
      if (link) { e.preventDefault(); link.click(); }
      return;
    }
    const keys = {
      g: () => { went = Date.now(); },
      "?": () => help && help.showModal(),
      "/": () => { const f = one("[data-find]"); if (f) { f.focus(); f.select(); } },
      j: () => choose(1),
      k: () => choose(-1),
      n: () => one('[data-page="n"]')?.click(),
      p: () => one('[data-page="p"]')?.click(),
      " ": () => one("[data-tail-pause]:not([hidden])")?.click(),
      c: () => one("main [data-copy]:not([hidden])")?.click(),
    };
    if (e.key === " " && (!one("[data-tail-pause]") || e.target.closest("button, a, summary"))) return;
    if (Object.hasOwn(keys, e.key)) { e.preventDefault(); keys[e.key](); }
  });

  // Word of a host that does not answer, or that wants a login again.
  const stale = one("[data-stale]");
  let heard = Date.now();
  const gone = () => {
    if (!stale) return;
    one("[data-stale-since]", stale).textContent = ago(Date.now() - heard);
    stale.hidden = false;
  };
  document.addEventListener("htmx:afterRequest", (e) => {
    const status = e.detail.xhr ? e.detail.xhr.status : 0;
    if (status === 401) location.reload();
    else if (e.detail.successful) { heard = Date.now(); if (stale) stale.hidden = true; }
    else gone();
  });

  // The place in a navigation that scrolls.
  const current = one(".places a[aria-current]"), places = one(".places");
  if (current && places && places.scrollWidth > places.clientWidth) {
    places.scrollLeft = current.offsetLeft - places.clientWidth / 3;
  }
})();
