// The browser of flips: answers whose verdict changed sides; filtered by target, arm, task and kind.
(() => {
  const panel = document.getElementById("flip-browser");
  if (!panel) return;
  const { targets, words } = pageData("flip-data");
  const [armPick, taskPick, kindPick, list, facts, more] = ["flip-arm", "flip-task", "flip-kind", "flip-list", "flip-facts", "flip-more"].map((id) =>
    document.getElementById(id),
  );
  const AT_ONCE = 20;
  let [target, shown] = [0, AT_ONCE];
  const problems = () => targets[target].problems;
  const kindOf = (flip) => `${words[problems()[flip.problem].outcome]} → ${words[flip.outcome]}`;

  // All arms' flips on all tasks, with the arm's name; and the number of those of each kind, shown or not.
  function found() {
    const cells = targets[target].arms
      .filter((arm) => !armPick.value || arm.name === armPick.value)
      .flatMap((arm) => arm.tasks.map((cell) => ({ arm: arm.name, ...cell })))
      .filter((cell) => !taskPick.value || cell.task === taskPick.value);
    const counts = {};
    for (const cell of cells) for (const [kind, number] of Object.entries(cell.counts)) counts[kind] = (counts[kind] ?? 0) + number;
    const flips = cells.flatMap((cell) => cell.shown.map((flip) => ({ ...flip, arm: cell.arm })));
    return { counts, flips };
  }

  function verdict(outcome, extracted) {
    const node = element("span", `verdict-${outcome}`, words[outcome]);
    return extracted ? [node, ` judged: ${extracted}`] : [node];
  }

  function block(title, text, ...after) {
    const box = element("div", "answer");
    const head = element("p", "label", title);
    const body = element("pre", "", text || "(empty)");
    body.tabIndex = 0;
    const foot = element("p", "fine");
    foot.append(...after);
    box.append(head, body, ...(after.length ? [foot] : []));
    return box;
  }

  function nearest(problem) {
    return problem.nearest.map(([place, cosine]) => {
      const row = targets[target].rows[place];
      return block(`Near training row ${row.id} (cosine ${cosine.toFixed(2)})`, `${row.prompt}\n→ ${row.response}`);
    });
  }

  function draw(flip) {
    const problem = problems()[flip.problem];
    const node = element("details", "flip");
    const head = element("summary", "");
    const name = element("span", "flip-kind", kindOf(flip));
    head.append(name, ` ${problem.id} `, element("span", "muted", `${flip.arm}, seed ${flip.seed}`));
    node.append(head);
    node.addEventListener("toggle", () => {
      if (!node.open || node.childElementCount > 1) return;
      const parts = element("div", "answers");
      parts.append(
        block("Question", problem.question),
        block("Reference answer", problem.gold),
        block("Base model", problem.before, ...verdict(problem.outcome, problem.extracted)),
        block(`${flip.arm}, after training`, flip.after, ...verdict(flip.outcome, flip.extracted)),
        ...nearest(problem),
      );
      node.append(parts);
    });
    return node;
  }

  function drawList() {
    const { counts, flips } = found();
    const kinds = Object.entries(counts).sort((a, b) => b[1] - a[1]);
    const wanted = kindPick.value;
    fillOptions(kindPick, [["", `all kinds (${kinds.reduce((sum, [, n]) => sum + n, 0)})`], ...kinds.map(([kind, n]) => [kind, `${kind} (${n})`])]);
    kindPick.value = counts[wanted] ? wanted : "";
    const chosen = flips.filter((flip) => !kindPick.value || kindOf(flip) === kindPick.value);
    const all = kindPick.value ? counts[kindPick.value] : kinds.reduce((sum, [, n]) => sum + n, 0);
    facts.textContent = `${all} answers changed sides; this page holds ${chosen.length} of them`;
    list.replaceChildren(...chosen.slice(0, shown).map(draw));
    more.hidden = chosen.length <= shown;
    more.textContent = `Show ${Math.min(AT_ONCE, chosen.length - shown)} more`;
  }

  function again() {
    shown = AT_ONCE;
    drawList();
  }

  function drawTarget(index) {
    target = index;
    const { arms } = targets[target];
    const tasks = [...new Set(arms.flatMap((arm) => arm.tasks.map((cell) => cell.task)))];
    fillOptions(armPick, [["", "all arms"], ...arms.map((arm) => [arm.name, arm.name])]);
    fillOptions(taskPick, [["", "all tasks"], ...tasks.map((task) => [task, task])]);
    again();
  }

  for (const pick of [armPick, taskPick, kindPick]) pick.addEventListener("change", again);
  more.addEventListener("click", () => { shown += AT_ONCE; drawList(); });
  segments("flip-target", targets.map((one) => one.name), 0, drawTarget);
  drawTarget(0);
  panel.hidden = false;
})();
