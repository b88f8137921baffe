"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const minus = (text) => text.replace("-", "−");
const grouped = (count) => count.toLocaleString("en");

/** A contribution: four decimals, and two digits where these would be zeros. */
function signed(value) {
  const text = value === 0 || Math.abs(value) >= 0.001 ? value.toFixed(4) : value.toPrecision(2);
  return (value > 0 ? "+" : "") + minus(text);
}

function percent(share) {
  if (share > 0 && share < 0.001) return "<0.1%";
  if (share < 1 && share > 0.999) return ">99.9%";
  return `${(100 * share).toFixed(1)}%`;
}

function floats(base64) {
  return new Float32Array(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer);
}

/** Call `move` with the horizontal and vertical position in [0, 1] of a mouse or finger, `step` with an arrow key's. */
function track(element, move, step, leave) {
  const point = (event) => {
    const box = element.getBoundingClientRect();
    const within = (position, length) => Math.min(Math.max(position / length, 0), 1 - 1e-9);
    move(within(event.clientX - box.left, box.width), within(event.clientY - box.top, box.height));
  };
  element.addEventListener("pointermove", point);
  element.addEventListener("pointerdown", point);
  element.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && element !== document.activeElement && leave());
  element.addEventListener("blur", leave);
  element.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in steps) {
      event.preventDefault();
      step(...steps[event.key]);
    }
  });
}

const clamp = (value, most) => Math.min(Math.max(value, 0), most);

// Why? One image, one class, one layer.

const shown = { image: 0, target: 0, layer: 0, pixel: null };

function paint(canvas, values, { height, width }, scale, transparent) {
  canvas.width = width;
  canvas.height = height;
  const pixels = new ImageData(width, height);
  values.forEach((value, i) => {
    const strength = Math.min(Math.max(value / scale, -1), 1);
    // Over the image the map is transparent where it is white beside it.
    const colour = data.colours[transparent ? (value > 0 ? 208 : 47) : Math.round((strength + 1) * 127.5)];
    pixels.data.set([...colour, transparent ? 255 * Math.abs(strength) : 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function layerMap(layer) {
  const { height, width } = data.layers[layer];
  const all = floats(data.images[shown.image].maps[layer]);
  return all.subarray(shown.target * height * width, (shown.target + 1) * height * width);
}

function showImage(number, chosen = 0) {
  shown.image = number;
  const image = data.images[number];
  const label = data.classes[image.label];
  const predicted = data.classes[image.targets[0]];
  at("image").src = document.querySelector(`.card[data-image="${number}"] img`).src;
  at("image").alt = `Test image ${image.index}, ${label}`;
  at("position").textContent = `${number + 1} of ${data.images.length}`;
  at("verdict").textContent =
    `Test image ${image.index} shows “${label}”, and the network ` +
    (image.recognised
      ? `takes it for “${predicted}”`
      : `recognises none of its classes, or cannot tell similar ones apart: none is above 50%. The most probable is “${predicted}”`) +
    (image.label === image.targets[0] ? ", which is right." : ", which is wrong.");
  const choices = image.targets.map((target, index) => {
    const choice = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "class", value: index });
    radio.checked = index === chosen;
    radio.addEventListener("change", () => {
      showClass(index);
      remember();
    });
    const name = Object.assign(document.createElement("span"), { className: "name" });
    name.textContent = data.classes[target] + (target === image.label ? " ✓" : "");
    name.title = data.classes[target];
    const bar = document.createElement("i");
    bar.style.setProperty("--share", image.probabilities[index]);
    const probability = Object.assign(document.createElement("span"), { className: "probability" });
    probability.textContent = percent(image.probabilities[index]);
    choice.append(radio, name, bar, probability);
    return choice;
  });
  const improbable = (_, index) => index > 0 && image.probabilities[index] < 0.001 && image.targets[index] !== image.label;
  const folded = choices.filter(improbable);
  at("classes").replaceChildren(...choices.filter((choice) => !folded.includes(choice)));
  at("improbable").replaceChildren(...folded);
  at("improbable").parentElement.hidden = !folded.length;
  at("improbable").parentElement.open ||= folded.includes(choices[chosen]);
  at("improbable-count").textContent = `${folded.length} ${folded.length === 1 ? "class" : "classes"} below 0.1%`;
  for (const card of document.querySelectorAll(".card")) {
    card.setAttribute("aria-pressed", String(Number(card.dataset.image) === number));
  }
  showClass(chosen);
}

function showClass(index) {
  shown.target = index;
  const image = data.images[shown.image];
  at("why").textContent = `Why “${data.classes[image.targets[index]]}”?`;
  [...at("strip").children].forEach((thumbnail, layer) => {
    paint(thumbnail.firstChild, layerMap(layer), data.layers[layer], image.scales[layer]);
  });
  showLayer(shown.layer);
}

function showLayer(layer) {
  shown.layer = layer;
  const image = data.images[shown.image];
  const { name, height, width } = data.layers[layer];
  const size = `${height}×${width}`;
  at("layer").value = layer;
  at("layer").setAttribute("aria-valuetext", `${name}, ${size}`);
  at("layer-name").textContent = `${name}, ${size} positions`;
  [...at("strip").children].forEach((thumbnail, i) => thumbnail.classList.toggle("chosen", i === layer));
  const values = layerMap(layer);
  const scale = image.scales[layer];
  paint(at("map"), values, data.layers[layer], scale);
  paint(at("overlay"), values, data.layers[layer], scale, true);
  at("least").textContent = `≤${signed(-scale)}`;
  at("most").textContent = `≥${signed(scale)}`;
  at("coloured").disabled = layer > 0; // Only pixels have colours.
  at("colour-explanation").src = image.colours[shown.target];
  at("contribution-scale").hidden = coloured();
  at("colour-explanation").hidden = at("colour-note").hidden = !coloured();
  const target = data.classes[image.targets[shown.target]];
  const beside = coloured() ? `What ${target} looks for, in its colours` : `Contributions to ${target}`;
  at("over").setAttribute("aria-label", `Image with its contributions to ${target}; arrow keys move over it`);
  at("beside").setAttribute("aria-label", `${beside}; arrow keys read contributions`);
  showSum();
  showPixel(null);
}

const coloured = () => at("coloured").checked && shown.layer === 0;

/** The bars go on where the one before ends. */
function showSum() {
  const image = data.images[shown.image];
  const positive = image.positive[shown.layer][shown.target];
  const negative = image.negative[shown.layer][shown.target];
  const logit = image.logits[shown.target];
  const ends = [0, positive, positive + negative, positive + negative + data.bias];
  const least = Math.min(...ends);
  const length = Math.max(...ends) - least || 1;
  const share = (value) => `${(100 * value) / length}%`;
  const bars = { positive: [0, positive], negative: ends.slice(1, 3), bias: ends.slice(2, 4), logit: [0, logit] };
  for (const [name, [start, end]] of Object.entries(bars)) {
    const row = document.querySelector(`#sum .${name}`);
    row.querySelector("i").style.cssText = `--start: ${share(Math.min(start, end) - least)}; --length: ${share(Math.abs(end - start))}`;
    row.children[1].style.setProperty("--zero", share(-least));
    const value = name === "logit" ? logit : end - start;
    at(name).textContent = (value > 0 && name !== "logit" ? "+" : "") + minus(value.toFixed(3));
  }
  const { name } = data.layers[shown.layer];
  at("sum-title").textContent = shown.layer ? `The positions of the ${name} add up` : "The pixels add up";
  at("sum-note").textContent =
    `The sigmoid of ${minus(logit.toFixed(3))} is the probability, ${percent(image.probabilities[shown.target])}. ` +
    "Another layer has other parts, and the same sum.";
}

function showPixel(pixel) {
  shown.pixel = pixel;
  const { height, width } = data.layers[shown.layer];
  for (const cursor of document.querySelectorAll(".cursor")) {
    cursor.hidden = pixel === null;
    if (pixel === null) continue;
    const [row, column] = pixel;
    cursor.style.cssText = `left: ${(100 * column) / width}%; top: ${(100 * row) / height}%; width: ${100 / width}%; height: ${100 / height}%`;
  }
  if (pixel === null) {
    at("readout").textContent = "Point at a pixel, or move over the pictures with the arrow keys, to read what it contributes.";
    return;
  }
  const [row, column] = pixel;
  const value = layerMap(shown.layer)[row * width + column];
  const image = data.images[shown.image];
  const total = image.logits[shown.target] - data.bias;
  const share = total ? `${minus(((100 * value) / total).toFixed(2))}%` : "no share";
  const bold = document.createElement("b");
  bold.textContent = signed(value);
  at("readout").replaceChildren(
    bold,
    ` from row ${row + 1}, column ${column + 1}: ${share} of ${minus(total.toFixed(3))}, the logit without its bias.`,
  );
}

// The address says what is shown, so that links, a reload and the back button lead to it.

const address = () =>
  `#image=${data.images[shown.image].index}&class=${data.images[shown.image].targets[shown.target]}&layer=${shown.layer}`;
const ofSection = () => location.hash !== "" && !location.hash.includes("=");

/** Make what is shown a step that the back button returns to. */
function remember() {
  if (location.hash !== address()) history.pushState(address(), "", address());
}

/** Show what the address says, or what was shown at this section of the page; the first where there is no such thing. */
function recall() {
  const asked = new URLSearchParams((ofSection() ? (history.state ?? "") : location.hash).slice(1));
  const place = (name, values) => Math.max(0, values.map(String).indexOf(asked.get(name)));
  const image = place("image", data.images.map(({ index }) => index));
  shown.layer = place("layer", [...data.layers.keys()]);
  showImage(image, place("class", data.images[image].targets));
}

/** Have the address, or the state of a section's, be that of what is shown. */
function settle() {
  history.replaceState(address(), "", ofSection() ? location.hash : address());
}

// The picture that is saved: what is shown, on white, with what it is of.

/** The image as it is under the overlay; Safari's canvases know no filters, with which the page does it. */
async function greyed(image, strength) {
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const [red, green, blue] = pixels.data.slice(i, i + 3);
    const grey = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    [red, green, blue].forEach((value, colour) => {
      const pale = (1 - 0.4 * strength) * (value + strength * (grey - value) - 127.5) + 127.5;
      pixels.data[i + colour] = (1 + 0.2 * strength) * pale;
    });
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

async function savePicture() {
  const { index, targets, label, logits, probabilities } = data.images[shown.image];
  const { name, height, width } = data.layers[shown.layer];
  const target = data.classes[targets[shown.target]];
  const run = document.querySelector("h1").textContent;
  const strength = at("opacity").value / 100;
  const under = await greyed(at("image"), strength);
  const beside = coloured() ? at("colour-explanation") : at("map");
  const wide = under.width * Math.ceil(480 / under.width);
  const high = (wide * under.height) / under.width;
  const canvas = Object.assign(document.createElement("canvas"), { width: 2 * wide + 60, height: high + 190 });
  const context = canvas.getContext("2d");
  const write = (text, x, y, font, most) => {
    context.font = `${font} system-ui, sans-serif`;
    context.fillText(text, x, y, most);
  };
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#1b1c1e";
  write(`Why “${target}”? ${percent(probabilities[shown.target])}, logit ${minus(logits[shown.target].toFixed(3))}`, 20, 42, "bold 26px", canvas.width - 40);
  write(`Test image ${index} shows “${data.classes[label]}”; contributions of the ${name}, ${height}×${width} positions${coloured() ? ", and what the class looks for" : ""}`, 20, 76, "18px", canvas.width - 40);
  context.imageSmoothingEnabled = false;
  context.drawImage(under, 20, 100, wide, high);
  context.drawImage(beside, wide + 40, 100, wide, high);
  context.globalAlpha = strength;
  context.drawImage(at("overlay"), 20, 100, wide, high);
  context.globalAlpha = 1;
  write(`${run}, ${document.querySelector(".facts").textContent.split("·")[0].trim()}`, 20, high + 158, "18px", wide);
  if (!coloured()) {
    context.drawImage(at("colours"), wide + 40, high + 116, wide, 14);
    write(at("least").textContent, wide + 40, high + 158, "18px", wide / 2);
    context.textAlign = "right";
    write(at("most").textContent, 2 * wide + 40, high + 158, "18px", wide / 2);
  }
  const file = `${run} test image ${index} why ${target} by ${name}${coloured() ? " in colours" : ""}`.replace(/[^\p{L}\p{N}.]+/gu, "-");
  Object.assign(document.createElement("a"), { href: canvas.toDataURL(), download: `${file}.png` }).click();
}

function explorer() {
  for (let i = 0; i < 256; i++) {
    at("colours").getContext("2d").fillStyle = `rgb(${data.colours[i]})`;
    at("colours").getContext("2d").fillRect(i, 0, 1, 1);
  }
  data.layers.forEach(({ name, short, height, width }, layer) => {
    const thumbnail = document.createElement("span");
    const label = document.createElement("small");
    label.append(short, document.createElement("br"), `${height}×${width}`);
    thumbnail.title = name;
    thumbnail.append(document.createElement("canvas"), label);
    thumbnail.addEventListener("click", () => {
      showLayer(layer);
      remember();
    });
    at("strip").append(thumbnail);
  });
  at("layer").addEventListener("input", () => showLayer(Number(at("layer").value)));
  at("layer").addEventListener("change", remember); // Where it is let go.
  const fade = () => {
    const strength = at("opacity").value / 100;
    at("overlay").style.opacity = strength;
    // The image's own colours would mix with the map's, and its shadows would swallow them.
    at("image").style.filter = `grayscale(${strength}) contrast(${1 - 0.4 * strength}) brightness(${1 + 0.2 * strength})`;
  };
  at("opacity").addEventListener("input", fade);
  fade();
  for (const picture of document.querySelectorAll(".picture")) {
    picture.style.aspectRatio = `${data.layers[0].width} / ${data.layers[0].height}`;
    const grid = () => data.layers[shown.layer];
    track(
      picture,
      (x, y) => showPixel([Math.floor(y * grid().height), Math.floor(x * grid().width)]),
      (right, down) => {
        const [row, column] = shown.pixel ?? strongest();
        const move = shown.pixel ? [down, right] : [0, 0];
        showPixel([clamp(row + move[0], grid().height - 1), clamp(column + move[1], grid().width - 1)]);
      },
      () => showPixel(null),
    );
  }
  at("coloured").addEventListener("change", () => showLayer(shown.layer));
  at("save").addEventListener("click", savePicture);
  const turn = (by) => {
    showImage((shown.image + by + data.images.length) % data.images.length);
    remember();
  };
  at("previous").addEventListener("click", () => turn(-1));
  at("next").addEventListener("click", () => turn(1));
  for (const card of document.querySelectorAll(".card")) {
    card.addEventListener("click", () => {
      showImage(Number(card.dataset.image));
      remember();
      at("explorer").focus({ preventScroll: true });
      at("explorer").scrollIntoView();
    });
  }
  recall();
  settle();
  addEventListener("hashchange", () => {
    if (!ofSection() || history.state) recall();
    settle();
  });
}

/** [row, column] of the largest absolute contribution, where the arrow keys begin. */
function strongest() {
  const values = layerMap(shown.layer);
  const most = values.reduce((best, value, i) => (Math.abs(value) > Math.abs(values[best]) ? i : best), 0);
  const { width } = data.layers[shown.layer];
  return [Math.floor(most / width), most % width];
}

// Charts, which are drawn anew when the page's width changes.

function draw(parent, name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

/** Round numbers from at most `least` to at least `most`. */
function ticks(least, most) {
  const rough = (most - least) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const first = Math.floor(least / step + 1e-9);
  const last = Math.ceil(most / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

function nearest(points, epoch) {
  return points.reduce((best, point) => (Math.abs(point[0] - epoch) < Math.abs(best[0] - epoch) ? point : best));
}

function chart(quantity, format) {
  const svg = at(`${quantity}-chart`);
  const output = svg.nextElementSibling;
  const series = ["training", "test"].map((name) => [name, data.curves[quantity][name]]).filter(([, points]) => points.length);
  const hint = "Point at the curves, or use the arrow keys, to read their values.";
  const epochs = [...new Set(series.flatMap(([, points]) => points.map(([epoch]) => epoch)))].sort((a, b) => a - b);
  const values = series.flatMap(([, points]) => points.map(([, value]) => value));
  const margin = { left: 46, right: 12, top: 22, bottom: 34 };
  let chosen = null;
  let scaleX, scaleY, marks, width, height;
  const last = epochs.at(-1);

  function render() {
    width = svg.clientWidth;
    height = Math.min(300, Math.max(200, width * 0.55));
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.style.height = `${height}px`;
    const levels = ticks(Math.min(0, ...values), Math.max(...values));
    scaleX = (epoch) => margin.left + (epoch / (last || 1)) * (width - margin.left - margin.right);
    scaleY = (value) => height - margin.bottom - ((value - levels[0]) / (levels.at(-1) - levels[0])) * (height - margin.top - margin.bottom);
    for (const level of levels) {
      draw(svg, "line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: scaleY(level), y2: scaleY(level) });
      draw(svg, "text", { x: margin.left - 8, y: scaleY(level) + 4, "text-anchor": "end" }, format(level, levels[1] - levels[0]));
    }
    for (const epoch of ticks(0, last).filter((epoch) => epoch <= last)) {
      draw(svg, "text", { x: scaleX(epoch), y: height - margin.bottom + 16, "text-anchor": "middle" }, String(+epoch.toPrecision(6)));
    }
    draw(svg, "text", { x: width - margin.right, y: height - 3, "text-anchor": "end" }, "epoch");
    series.forEach(([name, points], i) => {
      draw(svg, "path", { class: name, d: points.map(([epoch, value], i) => `${i ? "L" : "M"}${scaleX(epoch).toFixed(1)} ${scaleY(value).toFixed(1)}`).join("") });
      // The test curve has a dot at every evaluation, so that colour is not all that tells them apart.
      if (name === "test") for (const [epoch, value] of points) draw(svg, "circle", { class: name, cx: scaleX(epoch), cy: scaleY(value), r: points.length > 60 ? 1.5 : 3 });
      draw(svg, "text", { class: name, x: margin.left + 8 + 84 * i, y: 12 }, name === "test" ? "● test" : "— training");
    });
    marks = draw(svg, "g", {});
    mark();
  }

  function mark() {
    marks.replaceChildren();
    output.textContent = hint;
    if (chosen === null) return;
    const x = scaleX(epochs[chosen]);
    draw(marks, "line", { class: "axis", x1: x, x2: x, y1: margin.top, y2: height - margin.bottom });
    const read = series.map(([name, points]) => {
      const [epoch, value] = nearest(points, epochs[chosen]);
      draw(marks, "circle", { class: name, cx: scaleX(epoch), cy: scaleY(value), r: 5 });
      return `${name} ${format(value)} after epoch ${+epoch.toFixed(2)}`;
    });
    output.textContent = read.join(", ");
  }

  const choose = (index) => {
    chosen = index;
    mark();
  };
  track(
    svg,
    (x) => {
      const epoch = ((x * width - margin.left) / (width - margin.left - margin.right)) * last;
      choose(epochs.indexOf(epochs.reduce((best, other) => (Math.abs(other - epoch) < Math.abs(best - epoch) ? other : best))));
    },
    (right) => choose(clamp((chosen ?? -1) + right, epochs.length - 1)),
    () => choose(null),
  );
  new ResizeObserver(render).observe(svg);
}

function confusion() {
  const svg = at("confusion");
  const output = svg.nextElementSibling;
  const count = data.classes.length;
  const totals = new Array(count).fill(0);
  const counts = new Map();
  for (const [label, predicted, images] of data.confusion) {
    totals[label] += images;
    counts.set(label * count + predicted, images);
  }
  let chosen = null;
  let left, top, cell, frame, width;

  function render() {
    width = svg.clientWidth;
    const named = count <= 30;
    const letter = 7.4; // The width of most, in pixels.
    const longest = Math.max(...data.classes.map((name) => [...name].length)) * letter + 10;
    left = named ? Math.min(longest, width * 0.26) : 20;
    top = named ? Math.min(longest, 120) : 20;
    const shortened = (name, room) => {
      const most = Math.floor((room - 10) / letter + 1e-9);
      return [...name].length > most ? `${[...name].slice(0, most - 1).join("")}…` : name;
    };
    cell = (width - left - 1) / count;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${top + cell * count + 1}`);
    svg.style.height = `${top + cell * count + 1}px`;
    for (const [label, predicted, images] of data.confusion) {
      const x = left + predicted * cell;
      const y = top + label * cell;
      const kind = label === predicted ? "right" : "wrong";
      // The root shows the few mistakes of a good network, too.
      draw(svg, "rect", { class: kind, x, y, width: cell, height: cell, "fill-opacity": Math.sqrt(images / totals[label]).toFixed(3) });
      if (cell > 22) draw(svg, "text", { class: "count", x: x + cell / 2, y: y + cell / 2, style: `font-size: ${Math.min(14, cell / 2.7)}px` }, grouped(images));
    }
    draw(svg, "rect", { class: "frame", x: left, y: top, width: cell * count, height: cell * count });
    data.classes.forEach((name, i) => {
      if (!named) return;
      draw(svg, "text", { x: left - 6, y: top + (i + 0.5) * cell + 4, "text-anchor": "end" }, shortened(name, left));
      draw(svg, "text", { transform: `translate(${left + (i + 0.5) * cell + 4} ${top - 6}) rotate(-90)` }, shortened(name, top));
    });
    if (!named) {
      draw(svg, "text", { x: left, y: 14 }, "predicted class");
      draw(svg, "text", { transform: `translate(14 ${top}) rotate(-90)`, "text-anchor": "end" }, "true class");
    }
    frame = draw(svg, "rect", { class: "at", width: cell, height: cell });
    mark();
  }

  function mark() {
    frame.style.display = chosen ? "" : "none";
    if (!chosen) {
      output.textContent = "Point at a cell, or use the arrow keys, to read it.";
      return;
    }
    const [label, predicted] = chosen;
    frame.setAttribute("x", left + predicted * cell);
    frame.setAttribute("y", top + label * cell);
    const images = counts.get(label * count + predicted) ?? 0;
    output.textContent =
      `true “${data.classes[label]}”, predicted “${data.classes[predicted]}”: ` +
      `${grouped(images)} of ${grouped(totals[label])} images${totals[label] ? `, ${percent(images / totals[label])}` : ""}`;
  }

  const choose = (cellAt) => {
    chosen = cellAt;
    mark();
  };
  track(
    svg,
    (x, y) => {
      const column = Math.floor((x * width - left) / cell);
      const row = Math.floor((y * (top + cell * count + 1) - top) / cell);
      choose(row >= 0 && column >= 0 ? [clamp(row, count - 1), clamp(column, count - 1)] : null);
    },
    (right, down) => choose(chosen ? [clamp(chosen[0] + down, count - 1), clamp(chosen[1] + right, count - 1)] : [0, 0]),
    () => choose(null),
  );
  new ResizeObserver(render).observe(svg);
}

if (data.images.length) explorer();
if (at("training")) {
  chart("accuracy", (value, step = 0.001) => `${(100 * value).toFixed(step < 0.01 ? 1 : 0)}%`);
  chart("loss", (value, step = 0.0001) => value.toFixed(Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))));
}
confusion();
