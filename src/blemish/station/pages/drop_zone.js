// Files that are dropped, or chosen, are sent one after the other to an upload of the page.
export default {
  template: `<label class="drop" :class="{ over }" @dragover.prevent="over = true" @dragleave="over = false" @drop.prevent="drop">
    <input type="file" multiple accept="image/*" :aria-label="text" @change="choose"/><span>{{ busy ? busy + " …" : text }}</span></label>`,
  props: { address: String, text: String, limit: Number },
  data() { return { over: false, busy: "" }; },
  methods: {
    drop(event) { this.over = false; this.send([...event.dataTransfer.files]); },
    choose(event) { this.send([...event.target.files]).then(() => { event.target.value = ""; }); },
    async send(files) {
      for (const [index, file] of files.entries()) {
        this.busy = `${index + 1} / ${files.length}`;
        const body = new FormData();
        body.append("file", file, file.name);
        const sent = file.size <= this.limit && await fetch(this.address, { method: "POST", body }).catch(() => null);
        if (!sent || !sent.ok) this.$emit("refused", file.name);
      }
      this.busy = "";
    },
  },
};
