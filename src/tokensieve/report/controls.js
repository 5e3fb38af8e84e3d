"use strict";
// Controls that the page's parts share.

// A choice of one name, as buttons beside each other.
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

// The entries of a list to choose from: value and text of each.
function fillOptions(select, entries) {
  select.replaceChildren(
    ...entries.map(([value, text]) => {
      const option = document.createElement("option");
      option.value = value;
      option.textContent = text;
      return option;
    }),
  );
}

// An element with a class and a text.
function element(tag, kind, text = "") {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  node.textContent = text;
  return node;
}

// The data of a part of the page.
const pageData = (id) => JSON.parse(document.getElementById(id).textContent);
