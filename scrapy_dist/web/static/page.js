// Keeps the parts of a page up to date with what its server sends. Without this script the
// page shows the same, and is loaded again by hand.
"use strict";
(() => {
  const path = document.body.dataset.live;
  if (!path) return;
  const lost = document.getElementById("connection");
  const waiting = new Map();
  let source = null;
  let isPressed = false;

  // Changes only what differs: what has the focus, is selected or scrolled stays so.
  const become = (old, wanted) => {
    if (old.nodeName !== wanted.nodeName) {
      old.replaceWith(wanted);
    } else if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== wanted.data) old.data = wanted.data;
    } else {
      for (const { name } of [...old.attributes]) {
        if (!wanted.hasAttribute(name)) old.removeAttribute(name);
      }
      for (const { name, value } of wanted.attributes) {
        if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      }
      becomeAll(old, wanted);
    }
  };
  const becomeAll = (old, wanted) => {
    const [before, after] = [[...old.childNodes], [...wanted.childNodes]];
    after.forEach((node, i) => (i < before.length ? become(before[i], node) : old.append(node)));
    before.slice(after.length).forEach((node) => node.remove());
  };

  // Not between the two halves of a click: it would meet another worker's button.
  const draw = () => {
    if (isPressed) return;
    for (const [name, html] of waiting) {
      const place = document.querySelector(`[data-part="${CSS.escape(name)}"]`);
      const wanted = document.createElement("template");
      wanted.innerHTML = html;
      if (place) becomeAll(place, wanted.content);
    }
    waiting.clear();
  };
  addEventListener("pointerdown", () => { isPressed = true; });
  for (const end of ["pointerup", "pointercancel"]) {
    addEventListener(end, () => setTimeout(() => { isPressed = false; draw(); }));
  }

  const open = () => {
    if (source) return;
    source = new EventSource(path);
    source.onopen = () => { lost.hidden = true; };
    source.onerror = () => {
      lost.hidden = false;
      // Refused for good, as after a restart with a password.
      if (source && source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(turn, 5000);
      }
    };
    source.onmessage = (event) => {
      lost.hidden = true;
      for (const [name, html] of Object.entries(JSON.parse(event.data))) waiting.set(name, html);
      draw();
    };
  };

  // A browser has few connections to one server: a page that nobody sees needs none.
  const close = () => {
    if (source) source.close();
    source = null;
  };
  const turn = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", turn);
  addEventListener("pagehide", close);
  addEventListener("pageshow", turn);
  turn();
})();
