// Histogram of scores by true label, and two thresholds that can be dragged, by mouse, pen, finger or arrow keys.
const NAMES = ["review", "reject"];
const TONES = { good: "#16a34a", defective: "#dc2626", unknown: "#94a3b8" };
export default {
  template: `
    <svg ref="svg" :viewBox="'0 0 ' + width + ' ' + height" style="width:100%; touch-action:pan-y; user-select:none"
      @pointermove="move" @pointerup="up" @pointercancel="up">
      <g v-for="bar in bars"><rect :x="bar.x" :y="bar.y" :width="bar.width" :height="bar.height" :fill="bar.fill"/></g>
      <line x1="0" :x2="width" :y1="floor" :y2="floor" stroke="#94a3b8"/>
      <g v-for="tick in ticks"><text :x="tick.x" :y="floor + 18" text-anchor="middle" font-size="12" fill="#64748b">{{ tick.text }}</text></g>
      <g v-for="(mark, index) in marks" :key="mark.name" :data-threshold="mark.name" @pointerdown="down($event, mark.name)"
        @keydown="key($event, mark.name)" tabindex="0" role="slider" :aria-label="labels[mark.name]" :aria-valuenow="mark.value"
        style="cursor:ew-resize; touch-action:none">
        <rect :x="mark.x - 14" y="0" width="28" :height="floor" fill="transparent"/>
        <line :x1="mark.x" :x2="mark.x" y1="26" :y2="floor" :stroke="mark.tone" stroke-width="2.5"/>
        <g :transform="'translate(' + tag(mark, index) + ',0)'">
          <rect x="-54" y="0" width="108" height="26" rx="5" :fill="mark.tone"/>
          <text x="0" y="17.5" text-anchor="middle" font-size="13" font-weight="600" fill="#fff">{{ labels[mark.name] }} {{ text(mark.value) }}</text>
        </g>
      </g>
    </svg>`,
  props: { edges: Array, counts: Object, review: Number, reject: Number, labels: Object, editable: Boolean },
  data() { return { width: 800, height: 300, values: { review: this.review, reject: this.reject }, held: null, offset: 0, sent: 0, later: null }; },
  watch: {
    review() { if (!this.held) this.values.review = this.review; },
    reject() { if (!this.held) this.values.reject = this.reject; },
  },
  mounted() {
    this.observer = new ResizeObserver(([entry]) => { this.width = Math.max(260, entry.contentRect.width); });
    this.observer.observe(this.$refs.svg);
  },
  unmounted() { this.observer.disconnect(); },
  computed: {
    floor() { return this.height - 26; },
    low() { return this.edges[0]; },
    high() { return this.edges[this.edges.length - 1]; },
    bars() {
      const kinds = Object.keys(TONES);
      const sums = this.counts.good.map((_, i) => kinds.reduce((sum, kind) => sum + this.counts[kind][i], 0));
      const most = Math.max(1, ...sums);
      const found = [];
      sums.forEach((_, i) => {
        let y = this.floor;
        for (const kind of kinds) {
          const count = this.counts[kind][i];
          if (!count) continue;
          // square roots, so that a few escapes are visible next to thousands of good parts
          const height = (count / sums[i]) * Math.sqrt(sums[i] / most) * (this.floor - 40);
          y -= height;
          const x = this.x(this.edges[i]);
          found.push({ x: x + 0.5, y, width: Math.max(1, this.x(this.edges[i + 1]) - x - 1), height, fill: TONES[kind] });
        }
      });
      return found;
    },
    ticks() {
      const rough = (this.high - this.low) / Math.max(4, this.width / 80);
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
      const found = [];
      for (let value = Math.ceil(this.low / step) * step; value < this.high; value += step)
        found.push({ x: this.x(value), text: this.text(Math.abs(value) < step / 1e6 ? 0 : value) });
      return found;
    },
    marks() {
      const tones = { review: "#d97706", reject: "#b91c1c" };
      return NAMES.filter((name) => this.values[name] !== null && this.values[name] !== undefined)
        .map((name) => ({ name, value: this.values[name], x: this.x(this.values[name]), tone: tones[name] }));
    },
  },
  methods: {
    x(value) { return ((value - this.low) / (this.high - this.low)) * this.width; },
    text(value) { return Number(value.toPrecision(4)).toString(); },
    tag(mark, index) {
      const places = this.marks.map((other) => Math.min(this.width - 54, Math.max(54, other.x)));
      if (places.length === 2 && places[1] - places[0] < 112) {
        const middle = Math.min(this.width - 110, Math.max(110, (places[0] + places[1]) / 2));
        return middle + (index ? 56 : -56);
      }
      return places[index];
    },
    down(event, name) {
      if (!this.editable) return;
      this.held = name;
      this.offset = this.at(event) - this.values[name];
      this.$refs.svg.setPointerCapture(event.pointerId);
    },
    move(event) {
      if (!this.held) return;
      this.put(this.held, this.at(event) - this.offset);
    },
    at(event) {
      const box = this.$refs.svg.getBoundingClientRect();
      return this.low + ((event.clientX - box.left) / box.width) * (this.high - this.low);
    },
    up() { if (this.held) { this.held = null; this.send(); } },
    key(event, name) {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !this.editable) return;
      event.preventDefault();
      event.stopPropagation();
      this.put(name, this.values[name] + (step * (this.high - this.low)) / (event.shiftKey ? 20 : 200));
    },
    put(name, value) {
      const { review, reject } = this.values;
      if (name === "review" && reject !== null) value = Math.min(value, reject);
      if (name === "reject" && review !== null) value = Math.max(value, review);
      this.values[name] = Math.min(this.high, Math.max(this.low, value));
      clearTimeout(this.later);
      if (Date.now() - this.sent > 120) this.send();
      else this.later = setTimeout(this.send, 120);
    },
    send() { this.sent = Date.now(); this.$emit("moved", { ...this.values }); },
  },
};
