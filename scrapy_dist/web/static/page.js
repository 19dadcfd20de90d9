// Keeps the parts of a page up to date with what its server sends. Without this script the
// page shows the same, and is loaded again by hand.
"use strict";
(() => {
  const path = document.body.dataset.live;
  if (!path) return;
  const lost = document.getElementById("connection");
  let source = null;

  // Who is at a button, or has chosen something, stays there.
  const put = (place, html) => {
    const focused = document.activeElement;
    const id = place.contains(focused) ? focused.id : "";
    const scrolled = place.firstElementChild ? place.firstElementChild.scrollLeft : 0;
    place.innerHTML = html;
    if (place.firstElementChild) place.firstElementChild.scrollLeft = scrolled;
    if (id) {
      const again = document.getElementById(id);
      if (again) again.focus({ preventScroll: true });
    }
  };

  const open = () => {
    if (source) return;
    source = new EventSource(path);
    source.onopen = () => { lost.hidden = true; };
    source.onerror = () => {
      lost.hidden = false;
      // Refused for good, as after a restart with a password.
      if (source && source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(open, 5000);
      }
    };
    source.onmessage = (event) => {
      lost.hidden = true;
      for (const [name, html] of Object.entries(JSON.parse(event.data))) {
        const place = document.querySelector(`[data-part="${CSS.escape(name)}"]`);
        if (place) put(place, html);
      }
    };
  };

  // A browser has few connections to one server: a page that nobody sees needs none.
  const turn = () => {
    if (!document.hidden) {
      open();
    } else if (source) {
      source.close();
      source = null;
    }
  };
  document.addEventListener("visibilitychange", turn);
  addEventListener("pagehide", () => { if (source) { source.close(); source = null; } });
  addEventListener("pageshow", turn);
  turn();
})();
