// A picture that the wheel zooms and the pointer moves.
export default {
  template: `<div class="zoom-image" @wheel.prevent="wheel" @dblclick="whole" @pointerdown="down" @pointermove="move"
    @pointerup="start = null" @pointercancel="start = null"><img :src="source" alt="" draggable="false" :style="sheet"/></div>`,
  props: { source: String },
  data() { return { zoomed: 1, offset: [0, 0], start: null }; },
  computed: {
    sheet() { return `transform:translate(${this.offset[0]}px,${this.offset[1]}px) scale(${this.zoomed})`; },
  },
  methods: {
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
    down(event) {
      this.$el.setPointerCapture(event.pointerId);
      this.start = [event.clientX - this.offset[0], event.clientY - this.offset[1]];
    },
    move(event) { if (this.start) this.shift([event.clientX - this.start[0], event.clientY - this.start[1]]); },
    whole() { this.zoomed = 1; this.shift([0, 0]); },
  },
};
