"use strict";
// Predicts the change of every score at the weights of the sliders, as
// cotbal.response.Response does: effects . z + curvature * departure(z).
{
  const ROUNDING = 1e-6; // in %
  const panel = document.getElementById("panel");
  const data = JSON.parse(document.getElementById("panel-data").textContent);
  const all = (selector) => [...panel.querySelectorAll(selector)];
  const sliders = all("input[type=range]");
  const rows = all("[data-score]");
  const status = panel.querySelector("[role=status]");
  const command = panel.querySelector("pre");
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const mean = (values) => sum(values) / values.length;
  const signed = (value, digits = 1) => {
    const text = Math.abs(value).toFixed(digits);
    if (Number(text) === 0) return text;
    return (value < 0 ? "\u2212" : "+") + text;
  };

  // Distance from equal weights: about |z|^2 near them.
  const departure = (z) => {
    const up = Math.log2(mean(z.map((value) => 2 ** value)));
    const down = Math.log2(mean(z.map((value) => 2 ** -value)));
    return (z.length / Math.LN2) * (up + down);
  };

  // x' M x, where `upper` holds the rows of M from the diagonal on.
  const quadratic = (upper, x) => {
    let total = 0;
    let k = 0;
    for (let i = 0; i < x.length; i += 1) {
      for (let j = i; j < x.length; j += 1) {
        total += (i === j ? 1 : 2) * upper[k] * x[i] * x[j];
        k += 1;
      }
    }
    return total;
  };

  const predict = (prediction, z) => {
    const away = departure(z);
    const linear = sum(prediction.effects.map((effect, i) => effect * z[i]));
    const change = linear + prediction.curvature * away;
    const variance = quadratic(prediction.covariance, [...z, away]);
    const error = Math.sqrt(Math.max(variance, 0));
    const half = prediction.t * error;
    return { change, error, low: change - half, high: change + half };
  };

  const position = (value) => {
    const share = Math.max(-1, Math.min(1, value / data.scale));
    return `${50 + 50 * share}%`;
  };

  const floorOf = (row) => {
    const field = row.querySelector("input[type=number]");
    return field === null || field.value === "" ? null : Number(field.value);
  };

  // Draws one prediction; returns whether the task falls below its floor.
  const show = (row, predicted) => {
    const floor = floorOf(row);
    const isBelow = floor !== null && predicted.change - predicted.error < floor - ROUNDING;
    const mark = (name) => row.querySelector(`.${name}`).style;
    mark("dot").left = position(predicted.change);
    mark("bar").left = position(predicted.low);
    mark("bar").right = `calc(100% - ${position(predicted.high)})`;
    mark("forbidden").width = floor === null ? "0" : position(floor);
    const bounds = `[${signed(predicted.low)}, ${signed(predicted.high)}]`;
    row.querySelector(".value").textContent = `${signed(predicted.change)} %`;
    row.querySelector(".bounds").textContent = bounds;
    row.classList.toggle("below", isBelow);
    const verdict = row.querySelector(".verdict");
    if (verdict !== null) verdict.textContent = isBelow ? "below its floor" : "";
    return isBelow;
  };

  // Weights with mean 1, as a file that `cotbal train` reads.
  const weightsFile = (weights) => {
    const round = (value) => Number(value.toFixed(4));
    const ofUnits = new Map(data.units.map((unit, i) => [unit, round(weights[i])]));
    const ofTasks = data.tasks.map(([task, unit]) => [task, unit === null ? 1 : ofUnits.get(unit)]);
    return JSON.stringify({
      weights: Object.fromEntries(ofUnits),
      tasks: Object.fromEntries(ofTasks),
    });
  };

  const values = sliders.map(() => 0); // doublings; a slider shows them rounded to its step

  const update = () => {
    const centre = mean(values);
    const z = values.map((value) => value - centre);
    const multiples = z.map((value) => 2 ** value);
    const weights = multiples.map((value) => value / mean(multiples));
    sliders.forEach((slider, i) => {
      const weight = weights[i].toFixed(2);
      slider.setAttribute("aria-valuetext", `${signed(values[i], 2)} doublings, weight ${weight}`);
      slider.parentElement.querySelector(".weight").textContent = weight;
    });
    const below = [];
    for (const row of rows) {
      const predicted = predict(data.predictions[Number(row.dataset.score)], z);
      if (show(row, predicted)) below.push(row.dataset.name);
    }
    const farthest = Math.max(...z.map(Math.abs));
    const sentences = [below.length ? `Below the floor: ${below.join(", ")}.` : "Every floor holds."];
    if (farthest > data.reach + 0.005) {
      sentences.push(`Beyond the trials, which reach ${data.reach.toFixed(2)} doublings.`);
    }
    status.textContent = sentences.join(" ");
    status.classList.toggle("below", below.length > 0);
    const lines = ["cat > weights.json <<'JSON'", weightsFile(weights), "JSON"];
    if (data.command) lines.push(data.command);
    command.textContent = lines.join("\n");
  };

  const set = (preset) => {
    sliders.forEach((slider, i) => {
      values[i] = preset.z[i];
      slider.value = values[i];
    });
    for (const row of rows) {
      const field = row.querySelector("input[type=number]");
      if (field === null || preset.floors === null) continue;
      field.value = preset.floors[Number(row.dataset.score)] ?? "";
    }
    update();
  };

  const copy = async (button) => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command);
    }
  };

  all("[data-preset]").forEach((button) => {
    button.addEventListener("click", () => set(data.presets[Number(button.dataset.preset)]));
  });
  sliders.forEach((slider, i) => {
    slider.addEventListener("input", () => {
      values[i] = Number(slider.value);
    });
  });
  panel.addEventListener("input", update);
  panel.querySelector(".copy").addEventListener("click", (event) => copy(event.target));
  panel.hidden = false;
  set(data.presets[0]);
}
