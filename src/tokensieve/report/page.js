"use strict";
// The token browser: pick a target, an arm and a row; read a token's perplexity by hover, touch or arrow keys.
(() => {
  const panel = document.getElementById("browser");
  if (!panel) return;
  const { targets, texts, steps } = JSON.parse(document.getElementById("token-data").textContent);
  const state = { target: 0, arm: 0, row: 0 };
  const [rowBox, tip, picker] = ["row", "tip", "pick-row"].map((id) => document.getElementById(id));

  const grouped = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");
  const step = (perplexity) => steps.filter((limit) => perplexity > limit).length;
  const three = (value) =>
    value >= 1e6 ? value.toExponential(1).replace("e+", "e") : value >= 100 ? grouped(Math.round(value)) : Number(value.toPrecision(3)).toString();
  const percent = (p) => (p >= 0.9995 ? "over 99.9" : p < 0.0001 ? "under 0.01" : p < 0.01 ? (100 * p).toFixed(2) : (100 * p).toFixed(1)) + " %";
  const visible = (piece) => piece.replaceAll("\r", "\\r").replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣") || "(empty)";

  function segments(id, names, chosen, choose) {
    const box = document.getElementById(id);
    box.replaceChildren(
      ...names.map((name, index) => {
        const label = document.createElement("label");
        const input = document.createElement("input");
        const text = document.createElement("span");
        input.type = "radio";
        input.name = id;
        input.checked = index === chosen;
        input.addEventListener("change", () => choose(index));
        text.textContent = name;
        label.append(input, text);
        return label;
      }),
    );
  }

  function describe(text, row, index) {
    if (text.response[index] !== "1") return ["", "prompt: read, never trained"];
    const nll = text.nll[index];
    const trained = row.train[index] === "1" ? "trained" : "not trained";
    if (nll === null) return ["not scored", trained];
    return [`perplexity ${three(Math.exp(nll))} · probability ${percent(Math.exp(-nll))}`, trained];
  }

  // Blanks that carry a token's colour stay; a line end is shown as a mark and then breaks the line.
  function fill(node, piece) {
    for (const part of piece.split(/(\r\n|\r|\n|\t)/)) {
      if (!part) continue;
      if (!/^[\r\n\t]/.test(part)) {
        node.append(part);
        continue;
      }
      const mark = document.createElement("span");
      mark.className = "mark";
      mark.textContent = visible(part);
      node.append(mark, part === "\t" ? "\t" : part.includes("\n") ? "\n" : "");
    }
    if (!piece) node.append("∅");
  }

  function token(text, row, index) {
    const node = document.createElement("i");
    const inResponse = text.response[index] === "1";
    const nll = text.nll[index];
    const level = inResponse && nll !== null ? step(Math.exp(nll)) : 0;
    const classes = [level ? `p${level}` : "", inResponse ? (row.train[index] === "1" ? "" : "out") : "prompt"];
    node.className = classes.filter(Boolean).join(" ");
    node.dataset.index = index;
    node.tabIndex = -1;
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", [visible(text.pieces[index]), ...describe(text, row, index)].filter(Boolean).join(", "));
    fill(node, text.pieces[index]);
    return node;
  }

  const arm = () => targets[state.target].arms[state.arm];
  const current = () => ({ row: arm().rows[state.row], text: texts[arm().rows[state.row].text] });

  function facts(text, row) {
    let [tokens, out, nll, nllOut] = [0, 0, 0, 0];
    for (let index = 0; index < text.pieces.length; index++) {
      if (text.response[index] !== "1") continue;
      const left = row.train[index] !== "1";
      tokens += 1;
      out += left;
      nll += text.nll[index] ?? 0;
      nllOut += left ? (text.nll[index] ?? 0) : 0;
    }
    const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "–");
    const rest = row.notShown ? ` · ${row.notShown} more tokens not shown` : "";
    return `${tokens} response tokens · ${out} not trained (${share(out, tokens)}), which hold ${share(nllOut, nll)} of the nll${rest}`;
  }

  function draw() {
    hide();
    const { row, text } = current();
    document.getElementById("row-facts").textContent = facts(text, row);
    rowBox.replaceChildren(...text.pieces.map((_, index) => token(text, row, index)));
    const first = Math.max(0, text.response.indexOf("1"));
    if (rowBox.children[first]) rowBox.children[first].tabIndex = 0;
    picker.value = String(state.row);
    document.getElementById("previous").disabled = state.row === 0;
    document.getElementById("next").disabled = state.row === arm().rows.length - 1;
  }

  function drawRows(wanted) {
    const rows = arm().rows;
    const same = rows.findIndex((row) => row.id === wanted);
    state.row = same >= 0 ? same : 0;
    picker.replaceChildren(
      ...rows.map((row, index) => {
        const option = document.createElement("option");
        option.value = String(index);
        option.textContent = row.id;
        return option;
      }),
    );
    draw();
  }

  function drawArms(wanted) {
    const names = targets[state.target].arms.map((one) => one.name);
    state.arm = Math.max(0, names.indexOf(wanted));
    segments("pick-arm", names, state.arm, (index) => {
      const { id } = current().row;
      state.arm = index;
      drawRows(id);
    });
    drawRows();
  }

  function show(node) {
    const { row, text } = current();
    const index = Number(node.dataset.index);
    const head = document.createElement("strong");
    head.textContent = visible(text.pieces[index]);
    const lines = describe(text, row, index).filter(Boolean).map((line, place) => {
      const part = document.createElement(place ? "em" : "span");
      part.textContent = line;
      return part;
    });
    tip.replaceChildren(head, ...lines.flatMap((line, place) => (place ? [document.createElement("br"), line] : [line])));
    tip.hidden = false;
    const box = node.getClientRects()[0] ?? node.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    const left = Math.min(Math.max(8, box.left + box.width / 2 - tip.offsetWidth / 2), width - tip.offsetWidth - 8);
    const above = box.top - tip.offsetHeight - 8;
    tip.style.left = `${left + window.scrollX}px`;
    tip.style.top = `${(above > 4 ? above : box.bottom + 8) + window.scrollY}px`;
  }

  function hide() {
    tip.hidden = true;
  }

  function move(event) {
    const places = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    const tokens = rowBox.children;
    const from = Number(document.activeElement?.dataset?.index ?? -1);
    if (event.key === "Escape") return hide();
    const to = event.key === "Home" ? 0 : event.key === "End" ? tokens.length - 1 : from + (places[event.key] ?? NaN);
    if (!tokens[to]) return;
    event.preventDefault();
    for (const node of rowBox.querySelectorAll('[tabindex="0"]')) node.tabIndex = -1;
    tokens[to].tabIndex = 0;
    tokens[to].focus();
  }

  const tokenOf = (event) => event.target.closest?.("#row i");
  rowBox.addEventListener("pointerover", (event) => tokenOf(event) && show(tokenOf(event)));
  rowBox.addEventListener("pointerleave", hide);
  rowBox.addEventListener("focusin", (event) => tokenOf(event) && show(tokenOf(event)));
  rowBox.addEventListener("focusout", hide);
  rowBox.addEventListener("keydown", move);
  picker.addEventListener("change", () => { state.row = Number(picker.value); draw(); });
  document.getElementById("previous").addEventListener("click", () => { state.row -= 1; draw(); });
  document.getElementById("next").addEventListener("click", () => { state.row += 1; draw(); });

  const scale = document.getElementById("scale");
  scale.append("perplexity above ");
  steps.forEach((limit, index) => {
    const part = document.createElement("span");
    part.className = `p${index + 1}`;
    part.textContent = grouped(limit);
    scale.append(part);
  });

  segments("pick-target", targets.map((target) => target.name), 0, (index) => {
    const { name } = arm();
    state.target = index;
    drawArms(name);
  });
  const stm = targets[0].arms.find((one) => one.rows.some((row) => row.train.includes("1") && [...row.train].some((bit, at) => bit === "0" && texts[row.text].response[at] === "1")));
  drawArms(stm?.name);
  panel.hidden = false;
})();
