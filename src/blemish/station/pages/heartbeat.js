// Asks the station for its state once a second, and turns the verdicts of the page grey where it can no longer be
// trusted: all of it happens in the browser, so that it needs no station to say that the station is gone.
(() => {
  const config = CONFIG, texts = config.texts, root = document.documentElement;
  const LOST_MS = 2400, BEAT_MS = 800, ANSWER_MS = 2000, BEHIND_MS = 3000, CONNECTING_MS = 600;
  let wall = Date.now(), ticks = performance.now();  // of the last message from the station
  let latest = null, beats = [], rejected = null;
  // Neither clock alone will do: one may be set back, the other stops while the computer sleeps.
  const silence = () => Math.max(Date.now() - wall, performance.now() - ticks);
  const fill = (text, value) => text.replace("{value}", value);
  const clock = (time) => new Date(time).toTimeString().slice(0, 8);

  async function beat() {
    try {
      const answer = await fetch("/v1/status", { signal: AbortSignal.timeout(ANSWER_MS), cache: "no-store" });
      if (answer.status === 401) {
        location.assign("/login?next=" + encodeURIComponent(location.pathname));
        return;
      }
      if (answer.ok) latest = await answer.json();
      else if (answer.status === 503) latest = { ...latest, problem: { kind: "database", name: "" } };
      else throw new Error(String(answer.status));
      wall = Date.now();
      ticks = performance.now();
      if (answer.ok) heard();
    } catch { /* the silence says it */ }
    show();
    setTimeout(beat, BEAT_MS);
  }

  function heard() {
    beats.push([ticks, latest.last ? latest.last.id : 0]);
    while (beats.length > 60) beats.shift();
    for (const element of document.querySelectorAll(".recipe-name")) {
      const name = latest.recipe || texts.no_recipe;
      if (element.textContent !== name) element.textContent = name;
    }
    for (const element of document.querySelectorAll(".alarm-count")) {
      element.textContent = latest.alarms || "";
      element.style.display = latest.alarms ? "" : "none";
    }
    if (rejected !== null && latest.last_reject > rejected && localStorage.blemishSound === "on") sound();
    rejected = latest.last_reject;
  }

  // What stands in the place of the verdict, and how far it reaches: "offline" everywhere, else the line's own displays.
  function state() {
    if (silence() > LOST_MS) return ["offline", fill(texts.offline, clock(wall))];
    if (!latest) return ["", ""];
    if (latest.problem) return ["problem", fill(texts[latest.problem.kind], latest.problem.name)];
    const shown = document.querySelector("[data-part]");
    const old = beats.filter(([time]) => performance.now() - time > BEHIND_MS).pop();
    if (shown && old && Number(shown.dataset.part) < old[1]) return ["behind", texts.behind];
    const age = latest.last ? latest.last.age_s + silence() / 1000 : 0;
    if (latest.last && age > config.verdict_age_s) return ["idle", fill(texts.idle, duration(age))];
    return ["", ""];
  }

  function duration(seconds) {
    const whole = Math.floor(seconds), minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
    const two = (number) => String(number).padStart(2, "0");
    return hours ? `${hours}:${two(minutes % 60)}:${two(whole % 60)} h`
      : minutes ? `${minutes}:${two(whole % 60)} min` : `${whole} s`;
  }

  function show() {
    const [kind, text] = state();
    root.dataset.connection = kind;
    root.dataset.sound = localStorage.blemishSound || "off";
    for (const element of document.querySelectorAll(".aged")) {
      if (element.textContent !== text) element.textContent = text;
    }
    // Until NiceGUI's handshake the page does nothing that needs the station, and answers no click.
    root.dataset.ready = window.did_handshake || performance.now() < CONNECTING_MS ? "yes" : "no";
    const waits = root.dataset.ready === "no" ? texts.connecting : "";
    const banner = kind === "offline" || kind === "problem" ? text : waits;
    for (const element of document.querySelectorAll(".connection")) {
      if (element.textContent !== banner) element.textContent = banner;
    }
  }

  let audio = null;
  function sound() {
    audio = audio || new AudioContext();
    audio.resume();
    for (const [start, pitch] of [[0, 880], [0.18, 660]]) {
      const tone = audio.createOscillator(), gain = audio.createGain();
      tone.frequency.value = pitch;
      gain.gain.value = 0.3;
      tone.connect(gain).connect(audio.destination);
      tone.start(audio.currentTime + start);
      tone.stop(audio.currentTime + start + 0.15);
    }
    root.dataset.sounded = String(Number(root.dataset.sounded || 0) + 1);
  }
  window.blemishSound = () => {
    localStorage.blemishSound = localStorage.blemishSound === "on" ? "off" : "on";
    if (localStorage.blemishSound === "on") sound();
    show();
  };
  document.addEventListener("visibilitychange", show);
  setInterval(show, 200);
  beat();
})();
