// The live tail: pieces of the page come as server-sent events, made and escaped by the host.
"use strict";
(() => {
  const list = document.querySelector("[data-tail]");
  if (!list || !list.dataset.tail || !window.EventSource) return;
  const most = Number(list.dataset.tailMost);
  const state = document.querySelector("[data-tail-state]");
  const pause = document.querySelector("[data-tail-pause]");
  const clear = document.querySelector("[data-tail-clear]");
  const empty = document.querySelector("[data-tail-empty]");
  let paused = false, live = false, waiting = [], lost = 0;

  const show = () => {
    const n = waiting.filter((w) => w.event === "request" || w.event === "rejection").length + lost;
    state.textContent = paused ? "Paused" + (n ? ", " + n + " new" : "") : live ? "Live" : "Connecting…";
    state.classList.toggle("is-live", live && !paused);
  };
  const piece = (html) => {
    const t = document.createElement("template");
    t.innerHTML = html;
    return t.content.firstElementChild;
  };
  const find = (root, key) => key && root.querySelector('[data-key="' + CSS.escape(key) + '"]');
  const add = (row) => {
    list.prepend(row);
    row.querySelectorAll("time").forEach((t) => { t.dataset.fresh = ""; });
    while (list.children.length > most) list.lastElementChild.remove();
    empty.hidden = true;
  };
  const apply = (event, html) => {
    const el = piece(html);
    if (!el) return;
    if (event === "delivery") {
      const row = find(list, el.dataset.of), made = row && row.querySelector("[data-made]");
      if (!made) return;
      const old = find(made, el.dataset.key);
      if (old) old.replaceWith(el); else made.append(el);
      return;
    }
    const old = find(list, el.dataset.key);
    if (!old) { add(el); return; }
    if (event === "before") return;
    const head = el.querySelector(".tail-head"), was = old.querySelector(".tail-head");
    if (!was.contains(document.activeElement)) was.replaceWith(head);
    else was.querySelector(".badge").replaceWith(head.querySelector(".badge"));
  };
  const take = (event, html) => {
    if (!paused) { apply(event, html); return; }
    waiting.push({ event, html });
    while (waiting.length > most * 8) if (waiting.shift().event === "request") lost++;
    show();
  };

  const source = new EventSource(list.dataset.tail);
  source.addEventListener("ready", () => { live = true; show(); });
  source.addEventListener("missed", (e) => { live = true; show(); take("missed", e.data); });
  for (const event of ["request", "before", "delivery", "rejection", "skipped"]) {
    source.addEventListener(event, (e) => take(event, e.data));
  }
  source.addEventListener("error", () => {
    live = false;
    show();
    // Otherwise it comes back by itself: here it was turned away, by a login that has ended or since too many watch.
    if (source.readyState === EventSource.CLOSED) {
      const again = document.createElement("a");
      again.href = location.href;
      again.textContent = "Load again";
      state.replaceChildren("Not connected. ", again);
    }
  });
  addEventListener("pagehide", () => source.close());

  pause.hidden = clear.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) {
      const all = waiting;
      waiting = []; lost = 0;
      all.forEach((w) => apply(w.event, w.html));
    }
    show();
  });
  clear.addEventListener("click", () => { list.replaceChildren(); empty.hidden = false; });
  show();
})();
