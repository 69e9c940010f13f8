"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const list = document.getElementById("steps");
  const detail = document.getElementById("detail");
  const only = document.getElementById("only");
  const rows = [...list.querySelectorAll("[role=option]")];
  let chosen = -1;

  const element = (name, text, className) => {
    const made = document.createElement(name);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  const describe = (step) => {
    const terms = element("dl", "");
    const add = (term, ...values) => {
      if (!values.length) return;
      terms.append(element("dt", term));
      const definition = element("dd", "");
      values.forEach((value, index) => {
        if (index) definition.append(element("br", ""));
        definition.append(value);
      });
      terms.append(definition);
    };
    add("step", String(step.number));
    add("virtual time", `${step.time / 1e6} ms`);
    add("flow", step.lane + (step.cpu === null ? "" : ` on CPU ${step.cpu}`));
    add("function", step.function);
    add("operation", step.operation);
    if (step.owner) add("of", step.owner);
    if (step.values.length) add("values chosen", step.values.join(", "));
    add("could step", ...step.enabled.map((lane) => element("span", lane, lane === step.lane ? "taken" : "not-taken")));
    if (step.aheadOf) add("ran ahead of", step.aheadOf);
    add("call trace", ...step.stack);
    add("brought about", ...step.woken);
    add("counters after it", ...step.counts);
    add("note", ...step.notes);
    return terms;
  };

  const show = (row) => {
    const grid = list.parentElement;
    const head = grid.firstElementChild.offsetHeight;
    const step = row.querySelector(".step");
    if (row.offsetTop - head < grid.scrollTop) grid.scrollTop = row.offsetTop - head;
    const below = row.offsetTop + row.offsetHeight - grid.clientHeight;
    if (below > grid.scrollTop) grid.scrollTop = below;
    if (step.offsetLeft < grid.scrollLeft) grid.scrollLeft = step.offsetLeft;
    const beyond = step.offsetLeft + step.offsetWidth - grid.clientWidth;
    if (beyond > grid.scrollLeft) grid.scrollLeft = beyond;
  };

  const choose = (index) => {
    if (index < 0 || index >= rows.length) return;
    if (chosen >= 0) rows[chosen].setAttribute("aria-selected", "false");
    chosen = index;
    rows[chosen].setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", rows[chosen].id);
    show(rows[chosen]);
    detail.replaceChildren(element("h2", `step ${data[chosen].number}`), describe(data[chosen]));
    history.replaceState(null, "", `#at=${rows[chosen].id}`);
  };

  const isShown = (index) => !only.checked || rows[index].classList.contains("matter");
  const move = (by, wanted) => {
    let index = chosen < 0 ? (by > 0 ? -1 : rows.length) : chosen;
    do index += by; while (index >= 0 && index < rows.length && !wanted(index));
    choose(index);
  };
  const matters = (index) => rows[index].classList.contains("matter");
  const toggle = () => list.parentElement.classList.toggle("only", only.checked);

  const actions = {
    j: () => move(1, isShown), ArrowDown: () => move(1, isShown),
    k: () => move(-1, isShown), ArrowUp: () => move(-1, isShown),
    n: () => move(1, matters), p: () => move(-1, matters),
    Home: () => choose(rows.findIndex((_, index) => isShown(index))),
    End: () => { chosen = -1; move(-1, isShown); },
    m: () => { only.checked = !only.checked; toggle(); },
  };
  document.addEventListener("keydown", (event) => {
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });
  list.addEventListener("click", (event) => {
    const row = event.target.closest("[role=option]");
    if (row) choose(rows.indexOf(row));
  });
  only.addEventListener("change", toggle);
  for (const [id, key] of [["back", "k"], ["on", "j"], ["previous", "p"], ["next", "n"]])
    document.getElementById(id).addEventListener("click", actions[key]);
  for (const button of document.querySelectorAll("[data-step]"))
    button.addEventListener("click", () => choose(rows.findIndex((row) => row.id === button.dataset.step)));
  const wanted = rows.findIndex((row) => `#at=${row.id}` === location.hash);
  choose(wanted >= 0 ? wanted : rows.length - 1);
  list.focus({ preventScroll: true });
})();
