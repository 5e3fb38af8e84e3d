// Buttons that save a picture as an SVG or PNG file of its own, as it is seen: the visible size, in light or dark.
(() => {
  const PROPERTIES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "paint-order",
    "font-family", "font-size", "font-weight", "font-variant-numeric"];
  const SCALE = 2;

  // The picture with the page's styles as attributes of its own, on the page's ground.
  function standalone(svg) {
    const copy = svg.cloneNode(true);
    const [from, to] = [svg, copy].map((root) => [root, ...root.querySelectorAll("*")]);
    from.forEach((node, index) => {
      const style = getComputedStyle(node);
      for (const property of PROPERTIES) {
        const value = style.getPropertyValue(property);
        if (value) to[index].setAttribute(property, value);
      }
      to[index].removeAttribute("class");
    });
    const [width, height] = [svg.viewBox.baseVal.width, svg.viewBox.baseVal.height];
    const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of Object.entries({ width, height, fill: getComputedStyle(document.body).backgroundColor })) ground.setAttribute(name, value);
    copy.prepend(ground);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    return { text: new XMLSerializer().serializeToString(copy), width, height };
  }

  function download(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  function saveSvg(svg, name) {
    download(new Blob([standalone(svg).text], { type: "image/svg+xml" }), `${name}.svg`);
  }

  function savePng(svg, name) {
    const { text, width, height } = standalone(svg);
    const image = new Image();
    image.addEventListener("load", () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [SCALE * width, SCALE * height];
      const context = canvas.getContext("2d");
      context.scale(SCALE, SCALE);
      context.drawImage(image, 0, 0, width, height);
      canvas.toBlob((blob) => download(blob, `${name}.png`), "image/png");
    });
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  }

  const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60);
  for (const figure of document.querySelectorAll("figure")) {
    const seen = () => [...figure.querySelectorAll("svg")].find((svg) => svg.getBoundingClientRect().width) ?? figure.querySelector("svg");
    if (!seen()) continue;
    const place = figure.closest("section")?.id ?? "plot";
    const name = () => slug(`${place} ${seen().getAttribute("aria-label")}`);
    const box = element("p", "save");
    for (const [kind, save] of [["SVG", saveSvg], ["PNG", savePng]]) {
      const button = element("button", "", kind);
      button.type = "button";
      button.setAttribute("aria-label", `Save as ${kind}: ${seen().getAttribute("aria-label")}`);
      button.addEventListener("click", () => save(seen(), name()));
      box.append(button);
    }
    figure.append(box);
  }
})();
