// Score, heat map and verdict of one image by a blemish bundle, with nothing but OpenVINO and the standard library.
//
//   inspect BUNDLE IMAGE.pgm|ppm [MAP.pfm]
//
// prints one line of JSON, {"score": ..., "verdict": "pass|review|reject"}, and writes the map in the image's size.
// Exit status 2 and one line where something is wrong. It covers anomaly bundles of one image with plain thresholds,
// and refuses every bundle that needs more than that, because a verdict without its rules or tiles would be a wrong one.

#include <openvino/openvino.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

[[noreturn]] void fail(const std::string& message) { throw std::runtime_error(message); }

std::string read_file(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) fail(path + " cannot be read");
    return {std::istreambuf_iterator<char>(stream), {}};
}

// --- The bundle: a zip whose members are stored, not compressed ---

uint32_t number(const std::string& bytes, size_t at, int width) {
    if (at + width > bytes.size()) fail("the bundle is cut short");
    uint32_t value = 0;
    for (int i = width - 1; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    return value;
}

uint32_t crc32(const std::string& bytes) {
    uint32_t crc = ~0u;
    for (unsigned char byte : bytes) {
        crc ^= byte;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

std::map<std::string, std::string> read_members(const std::string& path) {
    const std::string bytes = read_file(path);
    const size_t end = bytes.rfind("PK\x05\x06");
    if (end == std::string::npos) fail(path + " is no bundle, or it is cut short");
    std::map<std::string, std::string> members;
    size_t entry = number(bytes, end + 16, 4);
    for (uint32_t left = number(bytes, end + 10, 2); left > 0; --left) {
        const uint32_t method = number(bytes, entry + 10, 2), crc = number(bytes, entry + 16, 4);
        const uint32_t size = number(bytes, entry + 24, 4), name_size = number(bytes, entry + 28, 2);
        const size_t local = number(bytes, entry + 42, 4);
        if (size == 0xFFFFFFFFu) fail("bundles of 4 GiB and more are not read here");
        const size_t data = local + 30 + number(bytes, local + 26, 2) + number(bytes, local + 28, 2);
        if (method != 0 || data + size > bytes.size()) fail(path + " is damaged");
        const std::string content = bytes.substr(data, size);
        if (crc32(content) != crc) fail(path + " is damaged: a checksum does not match");
        members[bytes.substr(entry + 46, name_size)] = content;
        entry += 46 + name_size + number(bytes, entry + 30, 2) + number(bytes, entry + 32, 2);
    }
    return members;
}

// --- JSON, as far as a manifest needs it ---

struct Json {
    enum Kind { null, boolean, numeric, text, list, object } kind = null;
    bool flag = false;
    double value = 0;
    std::string string;
    std::vector<Json> items;
    std::map<std::string, Json> members;

    const Json& operator[](const std::string& name) const {
        static const Json nothing;
        const auto found = members.find(name);
        return found == members.end() ? nothing : found->second;
    }
    // Absent, null, false, 0, or empty: what a plain bundle has where another one has an extension.
    bool is_default() const {
        return kind == null || (kind == boolean && !flag) || (kind == numeric && value == 0) ||
               (kind == list && items.empty()) || (kind == object && members.empty());
    }
};

class JsonReader {
  public:
    explicit JsonReader(const std::string& text) : text_(text) {}

    Json read() {
        Json found;
        const char next = skip();
        if (next == '{' || next == '[') return read_group(next == '{');
        if (next == '"') {
            found.kind = Json::text;
            found.string = read_string();
        } else if (take("true") || take("false")) {
            found.kind = Json::boolean;
            found.flag = text_[at_ - 2] == 'u';
        } else if (!take("null")) {
            char* end = nullptr;
            found.value = std::strtod(text_.c_str() + at_, &end);
            if (end == text_.c_str() + at_) fail("the manifest is no JSON");
            at_ = end - text_.c_str();
            found.kind = Json::numeric;
        }
        return found;
    }

  private:
    char skip() {
        while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_])) ++at_;
        if (at_ >= text_.size()) fail("the manifest is cut short");
        return text_[at_];
    }
    bool take(const char* word) {
        const bool here = text_.compare(at_, std::strlen(word), word) == 0;
        if (here) at_ += std::strlen(word);
        return here;
    }
    Json read_group(bool keyed) {
        Json found;
        found.kind = keyed ? Json::object : Json::list;
        const char close = keyed ? '}' : ']';
        ++at_;
        while (skip() != close) {
            if (keyed) {
                const std::string name = read_string();
                if (skip() != ':') fail("the manifest is no JSON");
                ++at_;
                found.members[name] = read();
            } else {
                found.items.push_back(read());
            }
            if (skip() == ',') ++at_;
        }
        ++at_;
        return found;
    }
    std::string read_string() {  // escapes stay as they are: the names that are compared have none
        const size_t start = ++at_;
        while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
        if (at_ >= text_.size()) fail("the manifest is cut short");
        return text_.substr(start, at_++ - start);
    }

    const std::string& text_;
    size_t at_ = 0;
};

void refuse_extensions(const Json& manifest) {
    for (const char* name : {"template", "windows", "tiling", "roi", "valid_mask", "support", "products"})
        if (!manifest[name].is_default()) fail(std::string("this client does not support bundles with ") + name);
    for (const char* name : {"rules", "zones", "class_thresholds", "min_area_px"})
        if (!manifest["decision"][name].is_default())
            fail(std::string("this client does not support decisions with ") + name);
    if (manifest["input"]["fit"].string != "stretch") fail("this client supports input that is stretched only");
    if (manifest["schema_version"].value != 2) fail("the bundle is of another version");
    for (const Json& output : manifest["outputs"].items)
        if (output.string != "anomaly_score" && output.string != "anomaly_map")
            fail("this client supports anomaly bundles only, not the output " + output.string);
}

// --- Images: planes of floats ---

struct Planes {
    int channels = 1, height = 0, width = 0;
    std::vector<float> pixels;  // channel by channel, row by row

    float& at(int c, int y, int x) { return pixels[(size_t(c) * height + y) * width + x]; }
    float at(int c, int y, int x) const { return pixels[(size_t(c) * height + y) * width + x]; }
};

Planes make_planes(int channels, int height, int width) {
    return {channels, height, width, std::vector<float>(size_t(channels) * height * width)};
}

// A binary PGM or PPM of 8 or 16 bits; pixels from 0 to `full`.
Planes read_image(const std::string& path, int& full) {
    const std::string bytes = read_file(path);
    size_t at = 2;
    if (bytes.size() < 8 || bytes[0] != 'P' || (bytes[1] != '5' && bytes[1] != '6')) fail(path + " is no PGM or PPM");
    auto header = [&] {
        for (;; ++at) {
            if (at >= bytes.size()) fail(path + " is cut short");
            if (bytes[at] == '#') at = bytes.find('\n', at);
            else if (!std::isspace(static_cast<unsigned char>(bytes[at]))) break;
        }
        int value = 0;
        for (; at < bytes.size() && std::isdigit(static_cast<unsigned char>(bytes[at])) && value < 100000; ++at)
            value = 10 * value + bytes[at] - '0';
        return value;
    };
    const int width = header(), height = header();
    full = header();
    ++at;
    const int channels = bytes[1] == '6' ? 3 : 1, size = full > 255 ? 2 : 1;
    if (full != 255 && full != 65535) fail(path + ": pixels of 8 or 16 bits are supported");
    if (width < 1 || height < 1 || bytes.size() - at < size_t(width) * height * channels * size)
        fail(path + " is cut short");
    Planes image = make_planes(channels, height, width);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
            for (int c = 0; c < channels; ++c, at += size) {
                const int high = static_cast<unsigned char>(bytes[at]);
                image.at(c, y, x) = size == 1 ? high : float(high * 256 + static_cast<unsigned char>(bytes[at + 1]));
            }
    return image;
}

// Which pixels of a row of `from` make up each of `to` pixels: means of areas where it shrinks, linear where it grows.
std::vector<std::vector<std::pair<int, float>>> weights(int from, int to, bool linear) {
    std::vector<std::vector<std::pair<int, float>>> all(to);
    const double step = double(from) / to;
    for (int i = 0; i < to; ++i) {
        if (step > 1 && !linear) {
            const double low = i * step, high = low + step;
            for (int j = int(low); j < std::min(from, int(std::ceil(high - 1e-9))); ++j)
                all[i].push_back({j, float((std::min(high, j + 1.0) - std::max(low, double(j))) / step)});
        } else {
            const double place = std::clamp((i + 0.5) * step - 0.5, 0.0, from - 1.0);
            const int left = std::min(int(place), from - 1), right = std::min(left + 1, from - 1);
            all[i] = {{left, float(1 - (place - left))}, {right, float(place - left)}};
        }
    }
    return all;
}

Planes resize(const Planes& image, int height, int width, bool linear = false) {
    const auto columns = weights(image.width, width, linear), rows = weights(image.height, height, linear);
    Planes wide = make_planes(image.channels, image.height, width), done = make_planes(image.channels, height, width);
    for (int c = 0; c < image.channels; ++c) {
        for (int y = 0; y < image.height; ++y)
            for (int x = 0; x < width; ++x)
                for (const auto& [j, share] : columns[x]) wide.at(c, y, x) += share * image.at(c, y, j);
        for (int y = 0; y < height; ++y)
            for (const auto& [j, share] : rows[y])
                for (int x = 0; x < width; ++x) done.at(c, y, x) += share * wide.at(c, j, x);
    }
    return done;
}

Planes match_channels(const Planes& image, int channels) {
    if (image.channels == channels) return image;
    Planes matched = make_planes(channels, image.height, image.width);
    const size_t plane = size_t(image.height) * image.width;
    for (size_t i = 0; i < plane; ++i) {
        if (image.channels == 1 && channels == 3)
            for (int c = 0; c < 3; ++c) matched.pixels[c * plane + i] = image.pixels[i];
        else if (image.channels == 3 && channels == 1)
            matched.pixels[i] = std::round(0.299f * image.pixels[i] + 0.587f * image.pixels[plane + i] +
                                           0.114f * image.pixels[2 * plane + i]);
        else
            fail("the image has " + std::to_string(image.channels) + " channels, the network takes " +
                 std::to_string(channels));
    }
    return matched;
}

// The pixel values that become 0 and 1.
std::pair<float, float> value_range(const Json& pixels, int full) {
    if (pixels.kind == Json::null) return {0.0f, float(full)};
    const auto& ends = pixels["ranges"][full == 255 ? "uint8" : "uint16"].items;
    if (ends.size() != 2 || ends[0].value >= ends[1].value) fail("the bundle was trained on images of another depth");
    return {float(ends[0].value), float(ends[1].value)};
}

void write_map(const std::string& path, const Planes& map) {  // PFM: rows from below, little endian
    std::ofstream stream(path, std::ios::binary);
    stream << "Pf\n" << map.width << ' ' << map.height << "\n-1.0\n";
    for (int y = map.height - 1; y >= 0; --y)
        stream.write(reinterpret_cast<const char*>(&map.pixels[size_t(y) * map.width]), map.width * sizeof(float));
    if (!stream) fail(path + " cannot be written");
}

const char* decide(double score, const Json& decision) {
    const Json &review = decision["review"], &reject = decision["reject"];
    if (!std::isfinite(score)) return "review";
    if (reject.kind == Json::numeric && score >= reject.value) return "reject";
    if (review.kind == Json::numeric && score >= review.value) return "review";
    return review.kind == Json::numeric || reject.kind == Json::numeric ? "pass" : "review";
}

void inspect(const std::string& bundle, const std::string& file, const std::string& map_file) {
    const auto members = read_members(bundle);
    if (!members.count("manifest.json") || !members.count("graph.onnx")) fail(bundle + " is no bundle");
    const Json manifest = JsonReader(members.at("manifest.json")).read();
    refuse_extensions(manifest);
    const Json& input = manifest["input"];
    const int channels = int(input["channels"].value), height = int(input["height"].value);
    const int width = int(input["width"].value);

    int full = 255;
    const Planes image = read_image(file, full);
    Planes prepared = resize(match_channels(image, channels), height, width);
    const auto [low, high] = value_range(input["pixels"], full);
    for (float& pixel : prepared.pixels)  // whole pixels are resized to whole ones
        pixel = std::clamp((std::nearbyint(pixel) - low) / (high - low), 0.0f, 1.0f);

    ov::Core core;
    const auto model = core.read_model(members.at("graph.onnx"), ov::Tensor());
    auto request = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32))
                       .create_infer_request();
    ov::Tensor tensor(ov::element::f32, {1, size_t(channels), size_t(height), size_t(width)}, prepared.pixels.data());
    request.set_input_tensor(tensor);
    request.infer();

    double score = std::numeric_limits<double>::quiet_NaN();
    Planes map;
    const auto& outputs = manifest["outputs"].items;
    for (size_t i = 0; i < outputs.size(); ++i) {
        const ov::Tensor found = request.get_output_tensor(i);
        const float* values = found.data<float>();
        if (outputs[i].string == "anomaly_score") score = values[0];
        if (outputs[i].string == "anomaly_map") {
            const auto shape = found.get_shape();  // (1, h, w)
            map = {1, int(shape[shape.size() - 2]), int(shape[shape.size() - 1]), {values, values + found.get_size()}};
        }
    }
    if (!map.pixels.empty()) map = resize(map, image.height, image.width, true);
    if ((manifest["score_source"].string == "map" || outputs.size() == 1) && !map.pixels.empty())
        score = *std::max_element(map.pixels.begin(), map.pixels.end());
    if (!map_file.empty()) {
        if (map.pixels.empty()) fail("the bundle gives no map");
        write_map(map_file, map);
    }
    const char* verdict = decide(score, manifest["decision"]);
    if (std::isfinite(score)) std::printf("{\"score\": %.9g, \"verdict\": \"%s\"}\n", score, verdict);
    else std::printf("{\"score\": null, \"verdict\": \"%s\"}\n", verdict);
}

}  // namespace

int main(int count, char** arguments) {
    try {
        if (count < 3 || count > 4) fail("usage: inspect BUNDLE IMAGE.pgm|ppm [MAP.pfm]");
        inspect(arguments[1], arguments[2], count == 4 ? arguments[3] : "");
        return 0;
    } catch (const std::exception& error) {
        std::string line = error.what();
        std::replace(line.begin(), line.end(), '\n', ' ');
        std::fprintf(stderr, "%s\n", line.c_str());
        return 2;
    }
}
