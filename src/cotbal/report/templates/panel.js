"use strict";
// Predicts the change of every score at the weights of the sliders, as
// cotbal.response.Response does: effects . z + curvature * departure(z), where the departure is
// that of all weights and, by a share, that of the score's own weight.
{
  const ROUNDING = 1e-4; // in %
  const GRID = 0.05; // doublings between the weights that are tried for the bar below a slider
  const panel = document.getElementById("panel");
  const data = JSON.parse(document.getElementById("panel-data").textContent);
  const all = (selector) => [...panel.querySelectorAll(selector)];
  const sliders = all("input[type=range]");
  const rows = all("[data-score]");
  const status = panel.querySelector("[role=status]");
  const command = panel.querySelector("pre");
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const mean = (values) => sum(values) / values.length;
  const dot = (left, right) => sum(left.map((value, i) => value * right[i]));
  const signed = (value, digits = 1) => {
    const text = Math.abs(value).toFixed(digits);
    return (value < 0 && Number(text) !== 0 ? "\u2212" : "+") + text;
  };

  // The symmetric matrix of which `upper` holds the rows from the diagonal on, in whole `unit`s.
  const symmetric = (upper, unit, size) => {
    const matrix = Array.from({ length: size }, () => new Array(size));
    let k = 0;
    for (let i = 0; i < size; i += 1) {
      for (let j = i; j < size; j += 1) {
        matrix[i][j] = unit * upper[k];
        matrix[j][i] = matrix[i][j];
        k += 1;
      }
    }
    return matrix;
  };
  const last = sliders.length; // index of the departure, after the doublings
  for (const known of data.predictions) {
    known.matrix = symmetric(known.covariance, known.unit, last + 1);
  }

  // Distance of all weights, and of every single one, from equal weights: about |z|^2 and
  // T z_t^2 near them.
  const distances = (z) => {
    const up = Math.log2(mean(z.map((value) => 2 ** value)));
    const down = Math.log2(mean(z.map((value) => 2 ** -value)));
    const centre = mean(z);
    const single = z.map((value) => {
      const both = Math.log2(2 ** (value - centre) + 2 ** (centre - value)) - 1;
      return ((2 * z.length) / Math.LN2) * both;
    });
    return { joint: (z.length / Math.LN2) * (up + down), single };
  };
  // How much farther the own weight of a score is than all are.
  const excess = (known, { joint, single }) => dot(known.own, single) - sum(known.own) * joint;
  const ofShare = (known, beyond) => (data.shareError * known.curvature * beyond) ** 2;

  const predict = (known, z) => {
    const far = distances(z);
    const beyond = excess(known, far);
    const away = far.joint + data.share * beyond;
    const place = [...z, away];
    const product = known.matrix.map((row) => dot(row, place));
    const change = dot(known.effects, z) + known.curvature * away;
    const ofCoefficients = dot(product, place);
    const variance = ofCoefficients + ofShare(known, beyond);
    return { change, variance, ofCoefficients, product, away };
  };

  // The same after one slider has moved. Raising all weights changes nothing, so the others stay.
  const moved = (known, from, i, step, far) => {
    const { effects, curvature, matrix } = known;
    const beyond = excess(known, far);
    const farther = far.joint + data.share * beyond - from.away;
    const change = from.change + step * effects[i] + curvature * farther;
    const ofStep = step * (2 * from.product[i] + step * matrix[i][i]);
    const ofFarther = farther * (2 * from.product[last] + farther * matrix[last][last]);
    const ofBoth = 2 * step * farther * matrix[i][last];
    const variance = from.ofCoefficients + ofStep + ofFarther + ofBoth + ofShare(known, beyond);
    return { change, variance };
  };

  const errorOf = (predicted) => Math.sqrt(Math.max(predicted.variance, 0));
  const isBelow = (predicted, floor) =>
    predicted.change - errorOf(predicted) < floor - ROUNDING;

  const position = (value) => {
    const share = Math.max(-1, Math.min(1, value / data.scale));
    return `${50 + 50 * share}%`;
  };

  const floorOf = (row) => {
    const field = row.querySelector("input[type=number]");
    return field === null || field.value === "" ? null : Number(field.value);
  };

  // Draws one prediction.
  const show = ({ row, known, predicted, floor, below }) => {
    const half = known.t * errorOf(predicted);
    const low = predicted.change - half;
    const high = predicted.change + half;
    const part = (name) => row.querySelector(`.${name}`);
    part("dot").style.left = position(predicted.change);
    part("bar").style.left = position(low);
    part("bar").style.right = `calc(100% - ${position(high)})`;
    part("forbidden").hidden = floor === null;
    part("forbidden").style.width = position(floor);
    part("value").textContent = `${signed(predicted.change)} %`;
    part("bounds").textContent = `[${signed(low)}, ${signed(high)}]`;
    row.classList.toggle("below", below);
    const verdict = part("verdict");
    if (verdict !== null) verdict.textContent = below ? "below its floor" : "";
  };

  const values = sliders.map(() => 0); // doublings; a slider shows them rounded to its step

  // The weights of one slider at which every floor holds, the other sliders unchanged.
  const keeping = (i, z, guarded) => {
    const limit = Number(sliders[i].max);
    const count = Math.round((2 * limit) / GRID);
    const places = Array.from({ length: count + 1 }, (_, k) => k * GRID - limit);
    return [...places, values[i]].filter((place) => {
      const step = place - values[i];
      const far = distances(z.map((value, j) => (i === j ? value + step : value)));
      return guarded.every(
        ({ known, predicted, floor }) => !isBelow(moved(known, predicted, i, step, far), floor),
      );
    });
  };

  const showRegion = (i, z, guarded) => {
    const bar = sliders[i].parentElement.querySelector(".region span");
    const kept = keeping(i, z, guarded);
    bar.hidden = kept.length === 0;
    bar.parentElement.title = "No position of this slider alone keeps every floor.";
    if (bar.hidden) return;
    const low = Math.min(...kept);
    const high = Math.max(...kept);
    const limit = Number(sliders[i].max);
    const share = (value) => `${(50 * (value + limit)) / limit}%`;
    bar.style.left = share(low);
    bar.style.right = share(-high);
    const span = `from ${signed(low, 2)} to ${signed(high, 2)} doublings`;
    bar.parentElement.title = `Every floor holds ${span} of this slider alone.`;
  };

  // Weights with mean 1, as a file that `cotbal train` and the exports read.
  const weightsFile = (weights) => {
    const ofUnits = new Map(data.units.map((unit, i) => [unit, weights[i]]));
    const ofTasks = data.tasks.map(([task, unit]) => [task, unit === null ? 1 : ofUnits.get(unit)]);
    const pair = ([name, weight]) => `${JSON.stringify(name)}: ${Number(weight.toFixed(4))}`;
    const pairs = (entries) => `{${[...entries].map(pair).join(", ")}}`;
    return `{"weights": ${pairs(ofUnits)},\n "tasks": ${pairs(ofTasks)}}`;
  };

  // Weights of a goal have a file and a prediction already, unless a slider has moved.
  const commandFor = (weights) => {
    const isSet = (preset) => preset.z.every((place, i) => place === values[i]);
    const ofGoal = data.presets.find((preset) => preset.command && isSet(preset));
    if (ofGoal) return ofGoal.command;
    const lines = ["cat > weights.json <<'JSON'", weightsFile(weights), "JSON"];
    if (data.command) lines.push(data.command);
    return lines.join("\n");
  };

  const update = () => {
    const centre = mean(values);
    const z = values.map((value) => value - centre);
    const multiples = z.map((value) => 2 ** value);
    const weights = multiples.map((value) => value / mean(multiples));
    const scores = rows.map((row) => {
      const known = data.predictions[Number(row.dataset.score)];
      const predicted = predict(known, z);
      const floor = floorOf(row);
      return { row, known, predicted, floor, below: floor !== null && isBelow(predicted, floor) };
    });
    scores.forEach(show);
    const guarded = scores.filter(({ floor }) => floor !== null);
    sliders.forEach((slider, i) => {
      const weight = weights[i].toFixed(2);
      slider.setAttribute("aria-valuetext", `${signed(values[i], 2)} doublings, ${data.lever} ${weight}`);
      slider.parentElement.querySelector(".weight").textContent = weight;
      showRegion(i, z, guarded);
    });
    const below = scores.filter((score) => score.below).map(({ row }) => row.dataset.name);
    const sentences = [below.length ? `Below the floor: ${below.join(", ")}.` : "Every floor holds."];
    if (Math.max(...z.map(Math.abs)) > data.reach + 0.005) {
      sentences.push(`Beyond the trials, which reach ${data.reach.toFixed(2)} doublings.`);
    }
    status.textContent = sentences.join(" ");
    status.classList.toggle("below", below.length > 0);
    command.textContent = commandFor(weights);
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
  panel.querySelector("[aria-controls]").addEventListener("click", (event) => {
    const box = document.getElementById("panel-command");
    box.hidden = !box.hidden;
    event.target.setAttribute("aria-expanded", String(!box.hidden));
  });
  panel.querySelector(".copy").addEventListener("click", (event) => copy(event.target));
  panel.hidden = false;
  set(data.presets[0]);
}
