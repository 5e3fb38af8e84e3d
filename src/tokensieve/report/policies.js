// Policies by their text in `select`. Each takes the nll of a row's candidates and says which of them are trained.
const notAbove = (nlls, limit) => nlls.map((nll) => nll <= limit);
const POLICIES = {
  trained: { label: "as trained" },
  plain: { label: "plain", decide: (nlls) => nlls.map(() => true) },
  stm: { label: "stm:PPL", start: 2.5, low: 1, step: 0.1, decide: (nlls, ppl) => notAbove(nlls, Math.log(ppl)) },
  share: { label: "share:FRACTION:row", start: 0.1, low: 0, high: 1, step: 0.01, decide: (nlls, share) => {
    const leftOut = Math.floor(share * nlls.length + 1e-9);
    if (leftOut === nlls.length) return nlls.map(() => false);
    return notAbove(nlls, [...nlls].sort((a, b) => a - b)[nlls.length - 1 - leftOut] ?? Infinity);
  } },
  nll_budget: { label: "nll_budget:FRACTION:row", start: 0.5, low: 0, high: 1, step: 0.05, decide: (nlls, share) => {
    let budget = share * nlls.reduce((sum, nll) => sum + nll, 0) + 1e-9;
    for (const value of [...new Set(nlls)].sort((a, b) => b - a)) {
      budget -= value * nlls.filter((nll) => nll === value).length;
      if (budget < 0) return notAbove(nlls, value);
    }
    return nlls.map(() => false);
  } },
};

// For each token of a row whether it is trained: "1" or "0".
function decided(text, row, policy, value) {
  if (policy === "trained") return row.train;
  const bits = [...text.response];
  const pool = bits.map((_, at) => at).filter((at) => bits[at] === "1" && text.protected[at] !== "1" && text.nll[at] !== null);
  const kept = POLICIES[policy].decide(pool.map((at) => text.nll[at]), value);
  pool.forEach((at, place) => { bits[at] = kept[place] ? "1" : "0"; });
  return bits.join("");
}
