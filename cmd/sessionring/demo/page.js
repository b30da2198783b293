"use strict";
// Keeps the page up to date. Without it the page works too: buttons are forms, and a reload shows the rest.
(() => {
  const el = (id) => document.getElementById(id);
  const text = (id, s) => { const e = el(id); if (e && e.textContent !== s) e.textContent = s; };
  const classes = (id, s) => { const e = el(id); if (e && e.getAttribute("class") !== s) e.setAttribute("class", s); };

  // What the page itself came with stays readable for a while.
  const keepUntil = el("message").hidden ? 0 : Date.now() + 8000;

  function show(v) {
    text("counter", v.visits || "–");
    if (v.message || Date.now() > keepUntil) {
      text("message", v.message);
      el("message").hidden = !v.message;
    }
    for (const n of v.nodes) {
      const id = "node-" + n.index;
      text(id + "-state", n.state);
      classes(id + "-state", "state " + n.state);
      text(id + "-cause", n.cause);
      text(id + "-process", n.condition);
      text(id + "-keys", n.keys);
      text(id + "-latency", n.latency);
      text(id + "-copy", n.copy);
      text("arc-state-" + n.index, n.state);
      classes("arc-" + n.index, "arc " + n.state);
      classes("link-" + n.index, "link " + n.holds);
    }
    el("events").replaceChildren(...(v.events || []).map((e) => {
      const li = document.createElement("li");
      li.className = e.kind;
      for (const [tag, name, s] of [["time", "", e.time], ["strong", "", e.node], ["span", "what", e.text], ["span", "quiet", e.cause]]) {
        const part = document.createElement(tag);
        part.className = name;
        part.textContent = s;
        li.append(part, " ");
      }
      return li;
    }));
  }

  let asking = null;
  async function refresh() {
    if (asking) return asking;
    asking = (async () => {
      try {
        const r = await fetch("/state.json", { signal: AbortSignal.timeout(8000) });
        if (r.ok) show(await r.json());
      } catch {
        text("message", "The demo itself does not answer any more. Is it still running?");
        el("message").hidden = false;
      } finally {
        asking = null;
      }
    })();
    return asking;
  }

  for (const form of document.forms) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("button");
      button.disabled = true;
      try {
        await fetch(form.action, { method: "POST", headers: { Accept: "application/json" } }); // its errors are among the last changes
      } catch { /* refresh tells */ }
      button.disabled = false;
      refresh();
    });
  }

  const loop = async () => {
    if (!document.hidden) await refresh();
    setTimeout(loop, 1000);
  };
  setTimeout(loop, 300);
})();
