// An image with its heat map, and a mask that is painted and erased with brush and polygon, by mouse, pen or finger.
// `classes` has the class of each pixel, 0 for none. The canvas shows it; strokes are painted on the canvas, and then
// taken over. Undo brings the classes back too, and so what is seen is what is saved.
const READ = { willReadFrequently: true };  // strokes are read from its pixels
const NO_CLASS = 255, PLAIN = "#e11d48";  // painted, but of no class yet

const open = new Set();  // the editors of this page
// Asked by the station before it shows another image, and by the browser before it leaves the page.
window.unsavedPainting = () => [...open].some((editor) => editor.unsaved());
window.addEventListener("beforeunload", (event) => { if (window.unsavedPainting()) event.preventDefault(); });

async function through(stream, bytes) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

export default {
  template: `
    <div class="mask-editor" style="position:relative; overflow:hidden; touch-action:none; user-select:none; line-height:0"
      @wheel.prevent="wheel" @contextmenu.prevent>
     <div ref="sheet" :style="sheetStyle">
      <img ref="image" :src="source" alt="" @load="fit" @error="$emit('problem')" draggable="false" style="width:100%; border-radius:6px"/>
      <img v-if="heat" v-show="heatShown" :src="heat" alt="" draggable="false" :style="heatStyle"/>
      <canvas ref="mask" :style="layer + '; opacity:.55'"></canvas>
      <img v-if="proposal" :src="proposal" alt="" draggable="false" :style="layer + '; opacity:.4; pointer-events:none'"/>
      <canvas ref="top" :style="layer + '; cursor:' + (tool === 'move' ? 'grab' : 'crosshair')" @pointerdown="down" @pointermove="move" @pointerup="up"
        @pointercancel="up" @pointerleave="leave" @dblclick="doubleClick"></canvas>
     </div>
    </div>`,
  props: { source: String, mask: String, heat: String, tool: String, size: Number, heatShown: Boolean, maskShown: Boolean,
    start: Object, colours: Array, index: Number, proposal: String },
  data() {
    return {
      layer: "position:absolute; inset:0; width:100%; height:100%",
      classes: null, ready: false, adding: null, past: [], polygon: [], last: null, cursor: null, changed: false, corner: null,
      zoomed: 1, offset: [0, 0], panned: null, dragged: null,
    };
  },
  computed: {
    // The bytes of red, green, blue and alpha of each class in one number.
    table() {
      const table = new Uint32Array(256);
      for (let own = 1; own < 256; own++) {
        const hex = parseInt(this.colourOf(own).slice(1), 16);
        table[own] = ((255 << 24) | ((hex & 255) << 16) | (hex & 0xff00) | (hex >> 16)) >>> 0;
      }
      return table;
    },
    sheetStyle() {
      const [x, y] = this.offset;
      return `position:relative; transform-origin:0 0; transform:translate(${x}px,${y}px) scale(${this.zoomed})`;
    },
    heatStyle() {
      return this.layer + "; opacity:.55; pointer-events:none; border-radius:6px";
    },
  },
  watch: {
    tool() { this.paintTop(); },
    size() { this.paintTop(); },
    // What was painted before any class was chosen gets the first one that is.
    index(now) {
      if (!now || !this.classes) return;
      if (this.last) this.take();
      const name = (all) => all.includes(NO_CLASS) ? all.map((own) => own === NO_CLASS ? now : own) : all;
      this.classes = name(this.classes);
      for (const own of this.past) own.classes = name(own.classes);
      this.show();
    },
    maskShown() { this.$refs.mask.style.visibility = this.maskShown ? "visible" : "hidden"; },
  },
  beforeUnmount() { open.delete(this); },
  mounted() {
    open.add(this);
    if (this.$refs.image.complete && this.$refs.image.naturalWidth) this.fit();
  },
  methods: {
    async fit() {
      if (this.classes) return;
      const { naturalWidth: width, naturalHeight: height } = this.$refs.image;
      this.$el.style.maxWidth = `calc(72vh * ${width / height})`;
      Object.assign(this.$refs.mask, { width, height });
      this.classes = new Uint8Array(width * height);
      this.classes = this.start ? await this.unpack(this.start) : await this.load(this.mask);
      this.show();
      Object.assign(this.$refs.top, { width, height });
      this.ready = true;
      this.$emit("ready");
    },
    // White pixels of a picture.
    load(source) {
      return new Promise((resolve) => {
        const found = new Image();
        found.onload = () => {
          const { width, height } = this.$refs.mask, context = this.context();
          context.drawImage(found, 0, 0, width, height);
          const pixels = context.getImageData(0, 0, width, height).data;
          resolve(this.classes.map((own, i) => pixels[4 * i] > 127 ? NO_CLASS : 0));
        };
        found.onerror = () => resolve(this.classes);
        found.src = source;
      });
    },
    // Classes of pixels that the station sent, at the size of the canvas.
    async unpack({ data, width, height }) {
      const packed = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
      const sent = await through(new DecompressionStream("deflate"), packed);
      const across = this.$refs.mask.width, by = [width / across, height / this.$refs.mask.height];
      const at = (value, scale) => Math.floor((value + 0.5) * scale);
      return this.classes.map((own, i) => sent[at(Math.floor(i / across), by[1]) * width + at(i % across, by[0])]);
    },
    context() { return this.$refs.mask.getContext("2d", READ); },
    colourOf(own) {
      return own && own !== NO_CLASS && this.colours.length ? this.colours[(own - 1) % this.colours.length] : PLAIN;
    },
    show() {
      const { width, height } = this.$refs.mask, { classes, table } = this;
      const image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
      for (let i = 0; i < pixels.length; i++) pixels[i] = table[classes[i]];
      this.context().putImageData(image, 0, 0);
    },
    // Take over what is on the canvas: new pixels get the chosen class, others keep theirs.
    take() {
      const { width, height } = this.$refs.mask, chosen = this.index || NO_CLASS;
      const pixels = this.context().getImageData(0, 0, width, height).data;
      this.classes = this.classes.map((own, i) => pixels[4 * i + 3] > 127 ? own || chosen : 0);
      this.changed = true;
      this.show();
    },
    at(event) {
      const box = this.$refs.top.getBoundingClientRect();
      const scale = this.$refs.top.width / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    },
    // Zoom by a factor around a point of the window; the picture always fills its frame.
    zoom(factor, x, y) {
      const box = this.$el.getBoundingClientRect();
      const [px, py] = [(x ?? box.left + box.width / 2) - box.left, (y ?? box.top + box.height / 2) - box.top];
      const zoomed = Math.min(32, Math.max(1, this.zoomed * factor)), by = zoomed / this.zoomed;
      this.zoomed = zoomed;
      this.shift([px - (px - this.offset[0]) * by, py - (py - this.offset[1]) * by]);
    },
    shift([x, y]) {
      const { clientWidth: width, clientHeight: height } = this.$el;
      const inside = (value, side) => Math.min(0, Math.max(side * (1 - this.zoomed), value));
      this.offset = [inside(x, width), inside(y, height)];
      this.$nextTick(() => this.paintTop());
    },
    wheel(event) { this.zoom(Math.exp(-event.deltaY / 400), event.clientX, event.clientY); },
    whole() { this.zoomed = 1; this.shift([0, 0]); },
    // Pixels of the canvas in one pixel of the window.
    grain() { return this.$refs.top.width / this.$refs.top.getBoundingClientRect().width; },
    radius() { return Math.max(0.5, this.size / 2); },
    // The points of a polygon are undone like strokes; pixels are changed on a copy, and so old ones take no room twice.
    remember() {
      this.past.push({ classes: this.classes, polygon: [...this.polygon], changed: this.changed });
      const kept = Math.min(20, Math.max(3, Math.floor(3e8 / this.classes.length)));  // at most 300 MB
      while (new Set(this.past.map((own) => own.classes)).size > kept) this.past.shift();
    },
    down(event) {
      if (!this.ready) return;  // nothing is painted on a picture that did not arrive
      this.$refs.top.setPointerCapture(event.pointerId);
      const point = this.at(event);
      if (this.tool === "move" || event.button > 0) {
        this.panned = [event.clientX - this.offset[0], event.clientY - this.offset[1]];
      } else if (this.tool === "box") {
        this.corner = point;
      } else if (this.tool === "point" || this.tool === "class") {
        this.$emit(this.tool, this.shares(point));
      } else if (this.tool === "polygon") {
        const near = ([x, y]) => Math.hypot(point[0] - x, point[1] - y) < 10 * this.grain();
        const index = this.polygon.findIndex(near);
        if (index < 0) {
          this.remember();
          this.polygon.push(point);
        } else this.dragged = { index, start: point, moved: false };
      } else {
        this.remember();
        this.last = point;
        this.stroke(point);
      }
      this.paintTop();
    },
    move(event) {
      this.cursor = this.at(event);
      if (this.panned) this.shift([event.clientX - this.panned[0], event.clientY - this.panned[1]]);
      if (this.dragged) {
        const [x, y] = this.dragged.start;
        if (!this.dragged.moved && Math.hypot(this.cursor[0] - x, this.cursor[1] - y) > 3 * this.grain()) {
          this.remember();
          this.dragged.moved = true;
        }
        if (this.dragged.moved) this.polygon[this.dragged.index] = this.cursor;
      }
      if (this.last) this.stroke(this.cursor);
      this.paintTop();
    },
    up() {
      if (this.last) this.take();
      if (this.corner && this.cursor) this.$emit("box", [...this.shares(this.corner), ...this.shares(this.cursor)]);
      this.corner = null;
      const { index, moved } = this.dragged || {};
      if (index === 0 && !moved && this.polygon.length > 2) this.closePolygon();
      this.last = this.panned = this.dragged = null;
      this.paintTop();
    },
    shares([x, y]) { return [x / this.$refs.top.width, y / this.$refs.top.height]; },
    // Add pixels that the station found; `over`: they replace the classes of those that are painted.
    add(map, over) {
      const added = this.merge(map, over);
      this.adding = Promise.allSettled([this.adding, added]);
      return added;
    },
    async merge(map, over) {
      if (!this.ready) return false;
      const found = await this.unpack(map);
      if (this.last) this.take();
      this.remember();
      this.classes = this.classes.map((own, i) => over ? found[i] || own : own || found[i]);
      this.changed = true;
      this.show();
      return true;
    },
    leave() { this.cursor = null; this.paintTop(); },
    paint(draw, erases = false) {
      const context = this.context();
      context.save();
      context.globalCompositeOperation = erases ? "destination-out" : "source-over";
      context.strokeStyle = context.fillStyle = this.colourOf(this.index);
      draw(context);
      context.restore();
    },
    stroke(point) {
      this.paint((context) => {
        context.lineWidth = 2 * this.radius();
        context.lineCap = context.lineJoin = "round";
        context.beginPath();
        context.moveTo(...this.last);
        context.lineTo(point[0] + 0.01, point[1]);
        context.stroke();
      }, this.tool === "erase");
      this.last = point;
    },
    closePolygon() {
      this.remember();
      this.paint((context) => {
        context.beginPath();
        this.polygon.forEach((point) => context.lineTo(...point));
        context.fill();
      });
      this.polygon = [];
      this.take();
      this.paintTop();
    },
    doubleClick() {
      if (this.tool !== "polygon" || !this.polygon.length) return;
      if (this.polygon.length > 2) this.closePolygon();
      else this.undo();  // the point of its first click, which may have closed the polygon before
    },
    // Close the polygon that is open, before saving; false where it has too few points.
    finish() {
      if (this.polygon.length > 2) this.closePolygon();
      return !this.polygon.length;
    },
    undo() {
      if (!this.past.length) return;
      Object.assign(this, this.past.pop(), { dragged: null });
      this.show();
      this.paintTop();
    },
    clear() {
      if (!this.ready) return;
      this.remember();
      Object.assign(this, { classes: new Uint8Array(this.classes.length), polygon: [], changed: true });
      this.show();
      this.paintTop();
    },
    paintTop() {
      const context = this.$refs.top.getContext("2d");
      const { width, height } = this.$refs.top;
      const line = Math.max(this.zoomed > 1 ? 0.1 : 1, this.grain());
      context.clearRect(0, 0, width, height);
      context.lineWidth = 1.5 * line;
      context.strokeStyle = "#38bdf8";
      context.beginPath();
      this.polygon.forEach((point) => context.lineTo(...point));
      if (this.tool === "polygon" && this.cursor && this.polygon.length) context.lineTo(...this.cursor);
      context.stroke();
      context.fillStyle = "#38bdf8";
      for (const [x, y] of this.polygon) context.fillRect(x - 3 * line, y - 3 * line, 6 * line, 6 * line);
      if (["box", "point", "class"].includes(this.tool)) {
        if (this.corner && this.cursor) {
          const [x, y] = this.corner;
          context.strokeRect(x, y, this.cursor[0] - x, this.cursor[1] - y);
        }
      } else if (this.cursor && ["brush", "erase"].includes(this.tool)) {
        context.beginPath();
        context.arc(...this.cursor, this.radius(), 0, 7);
        context.stroke();
      }
    },
    unsaved() { return !!(this.changed || this.last || this.polygon.length); },
    // The class of each pixel, deflated and in base64; null where all are as they were at first.
    async painted() {
      await this.adding;
      if (!this.changed) return null;
      const { width, height } = this.$refs.mask;
      const packed = await through(new CompressionStream("deflate"), this.classes);
      let text = "";
      for (const byte of packed) text += String.fromCharCode(byte);
      return { data: btoa(text), width, height };
    },
  },
};
