// A picture with polygons whose points are dragged, by mouse, pen, finger or arrow keys. A small point between two
// others becomes one of them when it is dragged. The wheel zooms; dragging beside the points moves the picture.
export default {
  template: `<div class="zoom-image" style="position:relative" @wheel.prevent="wheel" @dblclick="whole" @pointerdown="pan"
    @pointermove="move" @pointerup="up" @pointercancel="up">
    <div :style="sheet">
      <img :src="source" draggable="false" style="width:100%" alt="" @load="measure"/>
      <svg :viewBox="'0 0 ' + width + ' ' + height" preserveAspectRatio="none" style="position:absolute; inset:0; width:100%; height:100%">
        <g v-for="shape in drawn" :key="shape.id" :data-shape="shape.id">
          <polygon :points="shape.points.map((p) => p.join(',')).join(' ')" :stroke="shape.colour" :fill="shape.colour"
            :fill-opacity="shape.id === chosen ? .22 : .1" :stroke-width="(shape.id === chosen ? 3 : 1.5) * grain" style="cursor:pointer"
            @pointerdown.stop="choose(shape, $event)"/>
          <template v-if="editable && shape.id === chosen">
            <circle v-for="(p, i) in between(shape)" :key="'b' + i" :cx="p[0]" :cy="p[1]" :r="4 * grain" fill="#fff" :stroke="shape.colour"
              :stroke-width="grain" style="cursor:copy" data-between @pointerdown.stop="insert(shape, i, p, $event)"/>
            <circle v-for="(p, i) in shape.points" :key="i" :cx="p[0]" :cy="p[1]" :r="7 * grain" :fill="shape.colour" stroke="#fff"
              :stroke-width="1.5 * grain" style="cursor:move" tabindex="0" role="button" :aria-label="shape.name + ' ' + (i + 1)" data-point
              @pointerdown.stop="hold(shape, i, $event)" @keydown="key(shape, i, $event)"/>
          </template>
        </g>
      </svg>
    </div></div>`,
  props: { source: String, width: Number, height: Number, shapes: Array, chosen: String, editable: Boolean },
  data() { return { zoomed: 1, offset: [0, 0], start: null, held: null, drawn: this.copy(this.shapes), side: 0 }; },
  watch: { shapes(shapes) { if (!this.held) this.drawn = this.copy(shapes); } },
  computed: {
    sheet() { return `position:relative; transform-origin:0 0; transform:translate(${this.offset[0]}px,${this.offset[1]}px) scale(${this.zoomed})`; },
    grain() { return this.side ? this.width / (this.side * this.zoomed) : 1; },  // pixels of the image in one of the window
  },
  mounted() {
    this.observer = new ResizeObserver(() => this.measure());
    this.observer.observe(this.$el);
  },
  unmounted() { this.observer.disconnect(); },
  methods: {
    copy(shapes) { return shapes.map((shape) => ({ ...shape, points: shape.points.map((point) => [...point]) })); },
    measure() {
      this.$el.style.maxWidth = `calc(72vh * ${this.width / this.height})`;
      this.side = this.$el.clientWidth;
    },
    between({ points }) { return points.map(([x, y], i) => { const [a, b] = points[(i + 1) % points.length]; return [(x + a) / 2, (y + b) / 2]; }); },
    at(event) {
      const box = this.$el.getBoundingClientRect(), scale = this.width / (this.side * this.zoomed);
      const found = [event.clientX - box.left - this.offset[0], event.clientY - box.top - this.offset[1]].map((value) => value * scale);
      return [Math.min(this.width, Math.max(0, found[0])), Math.min(this.height, Math.max(0, found[1]))];
    },
    wheel(event) {
      const box = this.$el.getBoundingClientRect(), at = [event.clientX - box.left, event.clientY - box.top];
      const zoomed = Math.min(32, Math.max(1, this.zoomed * Math.exp(-event.deltaY / 400))), by = zoomed / this.zoomed;
      this.zoomed = zoomed;
      this.shift(at.map((value, axis) => value - (value - this.offset[axis]) * by));
    },
    shift(offset) {
      const sides = [this.$el.clientWidth, this.$el.clientHeight];
      this.offset = offset.map((value, axis) => Math.min(0, Math.max(sides[axis] * (1 - this.zoomed), value)));
    },
    whole() { this.zoomed = 1; this.shift([0, 0]); },
    pan(event) {
      this.$el.setPointerCapture(event.pointerId);
      this.start = [event.clientX - this.offset[0], event.clientY - this.offset[1]];
    },
    choose(shape, event) {
      if (shape.id !== this.chosen) this.$emit("choose", shape.id);
      else this.pan(event);
    },
    hold(shape, index, event) {
      if (!this.editable || event.button > 0) return;
      this.$el.setPointerCapture(event.pointerId);
      this.held = { shape, index };
    },
    insert(shape, index, point, event) {
      if (shape.fixed) return;  // a rectangle keeps its corners
      shape.points.splice(index + 1, 0, [...point]);
      this.hold(shape, index + 1, event);
    },
    move(event) {
      if (this.held) this.place(this.held.shape, this.held.index, this.at(event));
      else if (this.start) this.shift([event.clientX - this.start[0], event.clientY - this.start[1]]);
    },
    place(shape, index, [x, y]) { shape.points.splice(index, 1, [Math.round(x * 10) / 10, Math.round(y * 10) / 10]); },
    up() {
      if (this.held) this.tell(this.held.shape);
      this.held = this.start = null;
    },
    tell(shape) { this.$emit("moved", { id: shape.id, points: shape.points }); },
    key(shape, index, event) {
      const step = event.shiftKey ? 10 : 1, [x, y] = shape.points[index];
      const to = { ArrowLeft: [x - step, y], ArrowRight: [x + step, y], ArrowUp: [x, y - step], ArrowDown: [x, y + step] }[event.key];
      if (to) this.place(shape, index, [Math.min(this.width, Math.max(0, to[0])), Math.min(this.height, Math.max(0, to[1]))]);
      else if ((event.key === "Delete" || event.key === "Backspace") && shape.points.length > 3) shape.points.splice(index, 1);
      else return;
      event.preventDefault();
      event.stopPropagation();
      this.tell(shape);
    },
  },
};
