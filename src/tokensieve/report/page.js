// The token browser: pick a target, an arm and a row; read a token's perplexity by hover, touch or arrow keys.
(() => {
  const panel = document.getElementById("browser");
  if (!panel) return;
  const { targets, texts, steps } = pageData("token-data");
  const state = { target: 0, arm: 0, row: 0, policy: "trained", value: null, other: "none", otherValue: null, blanks: false, colour: "nll" };

  // Lists of one value a response token become lists of one value a token.
  for (const text of texts) {
    for (const name of ["entropy", "rank", "tuned", "preferred"]) {
      if (!text[name]) continue;
      let next = 0;
      text[name] = [...text.response].map((bit) => (bit === "1" ? text[name][next++] : null));
    }
  }

  // Colourings: the limits between the levels, each token's value, and whether a row has it. Steps of the nll are in perplexity.
  const COLOURINGS = {
    nll: { label: "perplexity", limits: steps, value: (text, row, at) => (text.nll[at] === null ? null : Math.exp(text.nll[at])) },
    entropy: { label: "entropy, nats", limits: [0.1, 0.5, 1, 1.5, 2, 3, 4], value: (text, row, at) => text.entropy?.[at] ?? null },
    rank: { label: "rank", limits: [0, 1, 3, 10, 100, 1000, 10000], value: (text, row, at) => text.rank?.[at] ?? null },
    weight: { label: "1 − weight", limits: [0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99], value: (text, row, at) => (row.weight ? 1 - row.weight[at] : 1 - Number(row.train[at])) },
    change: { label: "nll less than base, nats", limits: [0, 0.1, 0.3, 1, 2, 4, 8], value: (text, row, at) => (text.tuned?.[at] == null || text.nll[at] === null ? null : text.nll[at] - text.tuned[at]) },
    rise: { label: "nll more than base, nats", limits: [0, 0.1, 0.3, 1, 2, 4, 8], value: (text, row, at) => (text.tuned?.[at] == null || text.nll[at] === null ? null : text.tuned[at] - text.nll[at]) },
  };
  const COLOUR_NAMES = { nll: "perplexity", entropy: "entropy", rank: "rank", weight: "weight", change: `likelier by ${texts.find((text) => text.tuned)?.tunedName}`, rise: `less likely by ${texts.find((text) => text.tuned)?.tunedName}` };

  const [rowBox, tip, picker] = ["row", "tip", "pick-row"].map((id) => document.getElementById(id));

  const grouped = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");
  const level = (text, row, index) => {
    const { limits, value } = COLOURINGS[state.colour];
    const found = value(text, row, index);
    return found === null ? 0 : limits.filter((limit) => found > limit + 1e-9).length;
  };
  const three = (value) =>
    value >= 1e6 ? value.toExponential(1).replace("e+", "e") : value >= 100 ? grouped(Math.round(value)) : Number(value.toPrecision(3)).toString();
  const percent = (p) => (p >= 0.9995 ? "over 99.9" : p < 0.0001 ? "under 0.01" : p < 0.01 ? (100 * p).toFixed(2) : (100 * p).toFixed(1)) + " %";
  const visible = (piece) => piece.replaceAll("\r", "\\r").replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣") || "(empty)";

  function describe(text, row, index) {
    if (text.response[index] !== "1") return ["", "prompt: read, never trained"];
    const nll = text.nll[index];
    const trained = (train()[index] === "1" ? "trained" : "not trained") + (text.protected[index] === "1" ? ", protected" : "");
    if (nll === null) return ["not scored", trained];
    const weighted = row.weight ? `, weight ${row.weight[index]}` : "";
    const lines = [`perplexity ${three(Math.exp(nll))} · probability ${percent(Math.exp(-nll))}`, trained + weighted];
    const beside = [
      text.rank?.[index] != null ? `rank ${grouped(text.rank[index])}` : "",
      text.entropy?.[index] != null ? `entropy ${text.entropy[index]} nats` : "",
    ].filter(Boolean);
    if (beside.length) lines.push(beside.join(" · "));
    if (text.preferred?.[index]) lines.push(`the base prefers ${visible(text.preferred[index])}`);
    if (text.tuned?.[index] != null) lines.push(`by ${text.tunedName}: perplexity ${three(Math.exp(text.tuned[index]))}`);
    return lines;
  }

  // Blanks that carry a token's colour stay; a line end is shown as a mark and then breaks the line.
  function fill(node, piece) {
    for (const part of piece.split(/(\r\n|\r|\n|\t)/)) {
      if (!part) continue;
      if (!/^[\r\n\t]/.test(part)) {
        node.append(state.blanks ? part.replaceAll(" ", "·") : part);
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
    const shade = inResponse ? level(text, row, index) : 0;
    const differs = state.other !== "none" && other()[index] !== train()[index];
    const classes = [shade ? `p${shade}` : "", inResponse ? (train()[index] === "1" ? "" : "out") : "prompt", differs ? "differs" : ""];
    node.className = classes.filter(Boolean).join(" ");
    node.dataset.index = index;
    node.tabIndex = -1;
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", [visible(text.pieces[index]), ...describe(text, row, index)].filter(Boolean).join(", "));
    fill(node, text.pieces[index]);
    return node;
  }

  const arm = () => targets[state.target].arms[state.arm];
  const train = () => shown.train;
  const other = () => shown.other;
  let shown = { train: "", other: "" };
  const current = () => ({ row: arm().rows[state.row], text: texts[arm().rows[state.row].text] });

  function sums(text, bits) {
    let [tokens, out, nll, nllOut] = [0, 0, 0, 0];
    for (let index = 0; index < text.pieces.length; index++) {
      if (text.response[index] !== "1") continue;
      const left = bits[index] !== "1";
      tokens += 1;
      out += left;
      nll += text.nll[index] ?? 0;
      nllOut += left ? (text.nll[index] ?? 0) : 0;
    }
    return { tokens, out, nll, nllOut };
  }

  function facts(text, row) {
    const { tokens, out, nll, nllOut } = sums(text, train());
    const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "–");
    const rest = row.notShown ? ` · ${row.notShown} more tokens not shown` : "";
    const line = `${tokens} response tokens · ${out} not trained (${share(out, tokens)}), which hold ${share(nllOut, nll)} of the nll`;
    if (state.other === "none") return line + rest;
    const second = sums(text, other());
    const differ = [...train()].filter((bit, at) => bit !== other()[at]).length;
    return `${line} · compared with: ${second.out} (${share(second.out, tokens)}), ${share(second.nllOut, nll)} of the nll · ${differ} decided differently${rest}`;
  }

  function draw() {
    hide();
    const { row, text } = current();
    shown = {
      train: decided(text, row, state.policy, state.value),
      other: state.other === "none" ? "" : decided(text, row, state.other, state.otherValue),
    };
    document.getElementById("row-facts").textContent = facts(text, row);
    rowBox.replaceChildren(...text.pieces.map((_, index) => token(text, row, index)));
    const first = Math.max(0, text.response.indexOf("1"));
    if (rowBox.children[first]) rowBox.children[first].tabIndex = 0;
    picker.value = String(state.row);
    document.getElementById("previous").disabled = state.row === 0;
    document.getElementById("next").disabled = state.row === arm().rows.length - 1;
  }

  // The share of a row's nll that the chosen policy leaves out.
  function removed(row) {
    const text = texts[row.text];
    const { nll, nllOut } = sums(text, decided(text, row, state.policy, state.value));
    return nll ? nllOut / nll : 0;
  }

  function drawRows(wanted) {
    const rows = arm().rows;
    arm().order ??= [...rows];
    const order = document.getElementById("by-nll").checked ? [...arm().order].sort((a, b) => removed(b) - removed(a)) : arm().order;
    rows.splice(0, rows.length, ...order);
    const same = rows.findIndex((row) => row.id === wanted);
    state.row = same >= 0 ? same : 0;
    fillOptions(picker, rows.map((row, index) => [String(index), row.id]));
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

  // A choice of a policy and its value.
  function policyPicker(id, valueId, extra, key, valueKey) {
    const pick = document.getElementById(id);
    const value = document.getElementById(valueId);
    fillOptions(pick, [...extra, ...Object.entries(POLICIES).map(([name, one]) => [name, one.label])]);
    const again = () => drawRows(current().row.id);
    pick.addEventListener("change", () => {
      const { start, low, high, step } = POLICIES[pick.value] ?? {};
      state[key] = pick.value;
      state[valueKey] = start ?? null;
      value.hidden = start === undefined;
      Object.assign(value, { min: low ?? "", max: high ?? "", step: step ?? "any", value: start ?? "" });
      again();
    });
    value.addEventListener("input", () => {
      if (value.value === "" || !value.validity.valid && !value.validity.stepMismatch) return;
      state[valueKey] = Number(value.value);
      again();
    });
    value.hidden = true;
  }
  policyPicker("pick-policy", "value", [], "policy", "value");
  policyPicker("pick-other", "other-value", [["none", "nothing"]], "other", "otherValue");
  document.getElementById("by-nll").addEventListener("change", () => drawRows());
  document.getElementById("white-space").addEventListener("change", (event) => { state.blanks = event.target.checked; draw(); });

  // Colourings that some row has the values of.
  const has = { nll: true, entropy: "entropy", rank: "rank", weight: true, change: "tuned", rise: "tuned" };
  const offered = Object.keys(COLOURINGS).filter((name) => has[name] === true || texts.some((text) => text[has[name]]));
  const colourPick = document.getElementById("pick-colour");
  fillOptions(colourPick, offered.map((name) => [name, COLOUR_NAMES[name]]));

  function drawScale() {
    const { label, limits } = COLOURINGS[state.colour];
    const parts = limits.map((limit, index) => element("span", `p${index + 1}`, grouped(limit)));
    document.getElementById("scale").replaceChildren(`${label} above `, ...parts);
  }
  colourPick.addEventListener("change", () => { state.colour = colourPick.value; drawScale(); draw(); });
  drawScale();

  segments("pick-target", targets.map((target) => target.name), 0, (index) => {
    const { name } = arm();
    state.target = index;
    drawArms(name);
  });
  const stm = targets[0].arms.find((one) => one.rows.some((row) => row.train.includes("1") && [...row.train].some((bit, at) => bit === "0" && texts[row.text].response[at] === "1")));
  drawArms(stm?.name);
  panel.hidden = false;
})();
