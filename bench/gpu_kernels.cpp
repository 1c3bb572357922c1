// SPDX-License-Identifier: Apache-2.0
// Kernels on a GPU, one layer at a time and as whole networks. Each candidate tile of each distinct layer is checked
// element by element against a CPU reference and only then timed, as one node in a graph of equal dependent nodes; the
// best ones make up each network, which is captured as one graph, timed, and checked again layer by layer.
//
// gpu_kernels --cache DIR [--nvrtc PATH] [--candidates N] [--networks a,b] [--compile ARCH]
//   --compile   fills the cache for a GPU with 132 multiprocessors and ends; needs no GPU
#include <chrono>
#include <cinttypes>
#include <fstream>
#include <map>
#include <set>

#include "bench/gpu_host.h"
#include "bench/gpu_layers.h"
#include "bench/gpu_plan.h"
#include "bench/gpu_reference.h"
#include "codegen/compiler.h"
#include "edgert/cuda/session.h"

namespace {

using namespace edgert;
using namespace edgert::bench;
using codegen::ConvShape;
using codegen::ConvTarget;
using codegen::KernelSpec;

struct Options {
  std::string cache, nvrtc, networks = "resnet18,resnet50,mobilenet_v2";
  std::size_t candidates = 12;
  std::size_t prefetch = 2;  // how many steps ahead a step asks for weights
  std::uint32_t compile_arch = 0;
};

class Bench {
 public:
  Bench(const Options& options, Gpu* gpu) : options_(options), gpu_(gpu) {
    codegen::CompilerOptions compiler;
    compiler.cache_directory = options.cache;
    compiler.nvrtc = options.nvrtc;
    compiler.threads = std::max(1u, std::thread::hardware_concurrency());
    try {
      compiler_ = std::make_unique<codegen::Compiler>(compiler);
      std::ofstream(options.cache + "/nvrtc_version") << compiler_->nvrtc_version() << "\n";
    } catch (const codegen::CompileError&) {
      std::ifstream(options.cache + "/nvrtc_version") >> compiler.cached_version;
      compiler_ = std::make_unique<codegen::Compiler>(compiler);
    }
    log_ = std::fopen((options.cache + "/candidates.txt").c_str(), "w");
    target_.arch = gpu != nullptr ? static_cast<std::uint32_t>(gpu->arch) : options.compile_arch;
    target_.multiprocessors = gpu != nullptr ? gpu->multiprocessors : 132;
    target_.shared_bytes = gpu != nullptr ? gpu->shared_bytes : 227 * 1024;
  }


  void compile(const std::vector<KernelSpec>& specs) {
    std::vector<codegen::CompileJob> jobs;
    for (const KernelSpec& spec : specs) jobs.push_back(spec.job);
    const auto begin = std::chrono::steady_clock::now();
    const auto compiled = compiler_->compile(jobs);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      for (const auto& kernel : compiled[i].kernels) {
        if (kernel.spill_bytes > 0) spilling_.insert(specs[i].job.name);
      }
    }
    std::fprintf(stderr, "%zu kernels, %.1f s, %u from the cache\n", jobs.size(),
                 std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), compiler_->cache_hits());
  }

  /// Candidates of all distinct layers; the odd shapes with several tiles each.
  void plan(const std::vector<Network>& networks) {
    for (const Network& network : networks) {
      for (const Layer& layer : network.layers) {
        const std::string key = layer_key(layer);
        if (!distinct_.emplace(key, candidates_of(layer, target_, options_.candidates)).second) continue;
        order_.push_back({key, layer});
      }
    }
    for (const Layer& layer : odd_layers()) {
      auto all = candidates_of(layer, target_, 400);
      std::vector<KernelSpec> some;
      for (std::size_t i = 0; i < all.size(); i += std::max<std::size_t>(1, all.size() / 6)) some.push_back(all[i]);
      odd_.push_back({layer, some});
    }
    std::vector<KernelSpec> specs;
    for (const auto& [key, list] : distinct_) specs.insert(specs.end(), list.begin(), list.end());
    for (const auto& [layer, list] : odd_) specs.insert(specs.end(), list.begin(), list.end());
    compile(specs);
  }

  void verify_odd() {
    std::size_t checked = 0, bad = 0;
    for (const auto& [layer, list] : odd_) {
      Data data = make_data(layer, 1.0f);
      const std::vector<float> x = random_floats(data.size.input, 1.0f);
      const std::vector<float> r = random_floats(data.size.residual, 1.0f);
      const Reference reference = make_reference(layer, data, x, r);
      Buffers buffers = make_buffers(layer, data, x, r);
      for (const KernelSpec& spec : list) {
        ++checked;
        const std::size_t wrong = check(layer, spec, buffers, data, reference);
        bad += wrong != 0;
        if (wrong != 0) std::printf("WRONG %zu of %zu: %s\n", wrong, reference.value.size(), spec.job.name.c_str());
      }
      release(buffers, data);
    }
    std::printf("odd extents: %zu kernels checked, %zu wrong\n\n", checked, bad);
  }

  void tune() {
    std::printf("| layer | MMAC | floor us | best us | ratio | candidates us | best tile |\n| --- | --- | --- | --- | --- | --- | --- |\n");
    for (const auto& [key, layer] : order_) {
      Data data = make_data(layer, 1.0f);
      const std::vector<float> x = random_floats(data.size.input, 1.0f);
      const std::vector<float> r = random_floats(data.size.residual, 1.0f);
      const Reference reference = make_reference(layer, data, x, r);
      Buffers buffers = make_buffers(layer, data, x, r);
      std::vector<std::pair<double, const KernelSpec*>> times;
      for (const KernelSpec& spec : distinct_[key]) {
        if (spilling_.count(spec.job.name) > 0) continue;
        const std::size_t wrong = check(layer, spec, buffers, data, reference);
        if (wrong != 0) {
          std::printf("WRONG %zu of %zu: %s\n", wrong, reference.value.size(), spec.job.name.c_str());
          continue;
        }
        times.emplace_back(time_node(layer, spec, buffers, data), &spec);
      }
      release(buffers, data);
      std::sort(times.begin(), times.end());
      if (times.empty()) continue;
      best_[key] = *times[0].second;
      for (std::size_t i = 0; i < times.size(); ++i) std::fprintf(log_, "%.2f %s\n", times[i].first, times[i].second->job.name.c_str());
      const double floor = 0.67 + std::max(data.size.bytes / 5.5e6, data.size.macs / 3.0e8);
      std::string list;
      char text[32];
      for (const auto& [us, spec] : times) {
        std::snprintf(text, sizeof(text), "%.2f ", us);
        list += text;
      }
      const std::string name = short_name(layer, *times[0].second);
      std::printf("| %s | %.1f | %.2f | %.2f | %.2f | %s| %s |\n", name.c_str(), data.size.macs * 1e-6, floor, times[0].first,
                  times[0].first / floor, list.c_str(), times[0].second->job.name.substr(std::min(name.size() - (name.back() == 'r' ? 2 : 0), times[0].second->job.name.size())).c_str());
      std::fflush(stdout);
    }
    std::printf("\n");
  }

  void run_network(const Network& network) {
    std::vector<cuda::DevicePointer> tensors;
    std::vector<Data> data;
    std::vector<const KernelSpec*> specs;
    const std::vector<float> image = random_floats(3 * 224 * 224, 1.0f);
    tensors.push_back(gpu_->upload(image));
    double sum_us = 0;
    for (const Layer& layer : network.layers) {
      const auto found = best_.find(layer_key(layer));
      if (found == best_.end()) {
        std::printf("%s: a layer has no correct kernel\n", network.name.c_str());
        return;
      }
      specs.push_back(&found->second);
      data.push_back(make_data(layer, layer.residual >= 0 ? 0.5f : 1.0f));
      tensors.push_back(gpu_->allocate(data.back().size.output * 4, 0xff));
      sum_us += best_us_[found->second.job.name];
    }
    const auto record = [&](bool programmatic, std::size_t layers = ~std::size_t{0}) {
      return [&, programmatic, layers](cuda::Stream stream) {
        narrow_ = false;
        for (std::size_t i = 0; i < std::min(layers, network.layers.size()); ++i) {
          const Layer& layer = network.layers[i];
          launch(stream, layer, *specs[i], programmatic && i > 0, tensors[static_cast<std::size_t>(layer.input)],
                 layer.residual >= 0 ? tensors[static_cast<std::size_t>(layer.residual)] : 0, tensors[i + 1], data[i],
                 i + options_.prefetch < network.layers.size() && options_.prefetch > 0 ? &data[i + options_.prefetch] : nullptr);
        }
      };
    };
    std::size_t nodes = 0;
    const cuda::GraphExec plain = gpu_->capture(gpu_->stream, record(false), &nodes);
    const cuda::GraphExec programmatic = gpu_->capture(gpu_->stream, record(true), &nodes);
    gpu_->must(gpu_->driver.graph_launch(programmatic, gpu_->stream), "cuGraphLaunch");
    gpu_->must(gpu_->driver.stream_synchronize(gpu_->stream), "cuStreamSynchronize");
    const std::size_t wrong = check_network(network, tensors, data);
    const std::vector<float> first = gpu_->download<float>(tensors.back(), 1000);
    const Timing with = gpu_->time(gpu_->stream, programmatic, 500);
    const Timing without = gpu_->time(gpu_->stream, plain, 300);
    const bool same = first == gpu_->download<float>(tensors.back(), 1000);
    print_steps(network, specs, record);
    std::printf("| %s | %zu | %.1f | %.1f - %.1f | %.1f | %.1f | %zu | %s |\n", network.name.c_str(), nodes, with.median_us, with.low_us,
                with.high_us, without.median_us, sum_us, wrong, same ? "yes" : "NO");
    std::fflush(stdout);
    const double bare = host_us([&] { gpu_->must(gpu_->driver.graph_launch(programmatic, gpu_->stream), "cuGraphLaunch"); });
    run_plan(network, specs, data, image, first, bare);
    gpu_->must(gpu_->driver.graph_exec_destroy(plain), "destroy");
    gpu_->must(gpu_->driver.graph_exec_destroy(programmatic), "destroy");
  }

  /// Median host time of a call that queues one graph; the device idles before each.
  template <class Call>
  double host_us(const Call& call) const {
    std::vector<double> times;
    for (int i = 0; i < 300; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      call();
      times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
      gpu_->must(gpu_->driver.stream_synchronize(gpu_->stream), "cuStreamSynchronize");
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  /// The same network as a plan file, run by the runtime: must give the same bits.
  void run_plan(const Network& network, const std::vector<const KernelSpec*>& specs, const std::vector<Data>& data,
                const std::vector<float>& image, const std::vector<float>& expected, double bare_us) {
    std::vector<PlanStep> steps;
    bool narrow = false;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const Layer& layer = network.layers[i];
      PlanStep step = {&layer, *specs[i], compiler_->compile({specs[i]->job})[0].cubin, pack(layer, data[i]), data[i].bias,
                       data[i].size.output * (layer.kind == LayerKind::Gemv ? 4 : 2), specs[i]->shared_bytes};
      if (layer.kind == LayerKind::Conv) {
        narrow = narrow && step.spec.cluster == 1;
        step.shared_bytes = codegen::launch_shared_bytes(step.shared_bytes, narrow ? codegen::Footprint::Narrow : codegen::Footprint::Wide, target_);
        narrow = !narrow;
      }
      steps.push_back(std::move(step));
    }
    const std::vector<std::byte> file = PlanBuilder().build(steps, image.size() * 4, target_.arch, static_cast<std::uint32_t>(options_.prefetch));
    std::vector<std::byte> memory(file.size() + 64);
    std::byte* aligned = reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uintptr_t>(memory.data()), 64));
    std::memcpy(aligned, file.data(), file.size());
    LoadOptions load;
    load.log = {print_line, nullptr};
    const auto view = PlanView::load({aligned, file.size()}, load);
    if (!view.ok()) std::exit(5);
    alignas(64) static std::byte program_memory[1 << 16], session_memory[1 << 12];
    cuda::Program program;
    cuda::Session session;
    cuda::SessionOptions options;
    options.log = load.log;
    const auto begin = std::chrono::steady_clock::now();
    if (!program.prepare(gpu_->driver, *view, program_memory, {load.log, 0}).ok() || !session.prepare(program, session_memory, options).ok()) std::exit(6);
    const double prepare_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    std::vector<float> logits(expected.size());
    if (!session.write_input(0, image.data(), image.size() * 4).ok() || !session.run().ok() ||
        !session.read_output(0, logits.data(), logits.size() * 4).ok()) {
      std::exit(7);
    }
    const double enqueue = host_us([&] { if (!session.enqueue(gpu_->stream).ok()) std::exit(8); });
    std::vector<double> wall;
    for (int i = 0; i < 300; ++i) {
      const auto start = std::chrono::steady_clock::now();
      if (!session.run().ok()) std::exit(8);
      wall.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(wall.begin(), wall.end());
    std::fprintf(stderr, "%s as a plan of %.1f MB: same logits %s, load and prepare %.1f ms, enqueue %.2f us (bare graph launch %.2f), run() %.1f us\n",
                 network.name.c_str(), static_cast<double>(file.size()) * 1e-6, logits == expected ? "yes" : "NO", prepare_ms, enqueue, bare_us,
                 wall[wall.size() / 2]);
  }

  static std::vector<std::uint16_t> pack(const Layer& layer, const Data& data) {
    if (layer.kind == LayerKind::Conv) return codegen::pack_conv_weights(layer.conv, data.weights.data());
    if (layer.kind == LayerKind::Window) return codegen::pack_depthwise_weights(layer.window, data.weights.data());
    return to_halves(data.weights);
  }

  /// What each step adds to the whole, as the difference between graphs of its first layers, beside its time alone.
  template <class Record>
  void print_steps(const Network& network, const std::vector<const KernelSpec*>& specs, const Record& record) {
    std::ofstream file(options_.cache + "/steps_" + network.name + ".md");
    file << "| step | us in the network | us alone | kernel |\n| --- | --- | --- | --- |\n";
    double before = 0;
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
      const cuda::GraphExec exec = gpu_->capture(gpu_->stream, record(true, i + 1));
      const double now = gpu_->time(gpu_->stream, exec, 150).median_us;
      gpu_->must(gpu_->driver.graph_exec_destroy(exec), "destroy");
      char line[256];
      std::snprintf(line, sizeof(line), "| %zu | %.2f | %.2f | %s |\n", i, now - before, best_us_[specs[i]->job.name], specs[i]->job.name.c_str());
      file << line;
      before = now;
    }
  }

 private:
  struct Loaded {
    cuda::Function function = nullptr;
    cuda::DevicePointer workspace = 0, counters = 0;
  };
  struct Buffers {
    cuda::DevicePointer x = 0, residual = 0, y = 0;
  };

  static std::vector<Layer> odd_layers() {
    std::vector<Layer> layers;
    const auto add = [&](int h, int w, int c, int m, int k, int stride, int pad, bool residual, int batch = 1) {
      Layer layer;
      ConvShape& s = layer.conv;
      s.batch = batch, s.height = h, s.width = w, s.channels = c, s.out_channels = m;
      s.kernel[0] = s.kernel[1] = k, s.stride[0] = s.stride[1] = stride, s.pad[0] = s.pad[1] = pad;
      s.out_height = (h + 2 * pad - k) / stride + 1, s.out_width = (w + 2 * pad - k) / stride + 1;
      s.input_pitch = (c + 7) / 8 * 8 + 8, s.output_pitch = (m + 7) / 8 * 8 + 16, s.residual_pitch = (m + 7) / 8 * 8;
      s.epilogue = relu6();
      if (residual) s.epilogue.residual = scalar::ResidualMode::AfterActivation;
      layers.push_back(layer);
    };
    add(13, 11, 40, 24, 3, 1, 1, true);
    add(17, 19, 72, 50, 3, 2, 1, false);
    add(9, 9, 136, 100, 3, 1, 0, true);
    add(1, 77, 100, 40, 1, 1, 0, true);
    add(1, 49, 264, 72, 1, 1, 0, false);
    add(15, 15, 48, 20, 1, 2, 0, true);
    add(12, 10, 24, 36, 5, 1, 2, false, 2);
    layers.push_back(layers[0]);
    layers.back().conv.dilation[0] = layers.back().conv.dilation[1] = 2;
    layers.back().conv.pad[0] = layers.back().conv.pad[1] = 2;
    add(37, 29, 3, 20, 3, 2, 1, false);
    layers.back().conv.float_planes = true;
    add(31, 33, 3, 35, 7, 2, 3, false, 2);
    layers.back().conv.float_planes = true;
    add(21, 18, 5, 16, 3, 1, 1, false);
    layers.back().conv.float_planes = true;
    for (const auto kind : {codegen::WindowKind::Depthwise, codegen::WindowKind::Maximum, codegen::WindowKind::Average}) {
      Layer layer;
      layer.kind = LayerKind::Window;
      codegen::WindowShape& s = layer.window;
      s.kind = kind;
      s.batch = 2, s.height = 13, s.width = 11, s.channels = 20, s.input_pitch = 32, s.output_pitch = 24;
      s.stride[0] = s.stride[1] = kind == codegen::WindowKind::Average ? 1 : 2;
      s.out_height = (13 - 1) / s.stride[0] + 1, s.out_width = (11 - 1) / s.stride[1] + 1;
      s.epilogue = relu();
      layers.push_back(layer);
    }
    Layer layer;
    layer.kind = LayerKind::Gemv;
    layer.gemv.rows = 3, layer.gemv.depth = 320, layer.gemv.outputs = 77, layer.gemv.pixels = 5;
    layer.gemv.input_pitch = 328, layer.gemv.output_pitch = 80, layer.gemv.float_output = true;
    layers.push_back(layer);
    return layers;
  }

  Data make_data(const Layer& layer, float gain) {
    Data data;
    data.size = sizes_of(layer);
    const double fan_in = data.size.weights / double(std::max<std::size_t>(1, data.size.bias));
    data.weights = random_floats(data.size.weights, gain * static_cast<float>(std::sqrt(6.0 / fan_in)));
    data.bias = random_floats((data.size.bias + 15) / 16 * 16, 0.1f);
    data.device_weights = gpu_->upload(pack(layer, data));
    data.device_bias = gpu_->upload(data.bias);
    return data;
  }

  Buffers make_buffers(const Layer& layer, const Data& data, const std::vector<float>& x, const std::vector<float>& r) {
    Buffers b;
    b.x = layer.kind == LayerKind::Conv && layer.conv.float_planes ? gpu_->upload(x) : gpu_->upload(to_halves(x));
    if (!r.empty()) b.residual = gpu_->upload(to_halves(r));
    b.y = gpu_->allocate(data.size.output * 4);
    return b;
  }
  void release(Buffers& b, Data& data) {
    for (const cuda::DevicePointer p : {b.x, b.residual, b.y, data.device_weights, data.device_bias}) {
      if (p != 0) gpu_->free(p);
    }
  }

  static Reference make_reference(const Layer& layer, const Data& data, const std::vector<float>& x, const std::vector<float>& r) {
    if (layer.kind == LayerKind::Conv) return conv_reference(layer.conv, x, data.weights, data.bias, r);
    if (layer.kind == LayerKind::Window) return window_reference(layer.window, x, data.weights, data.bias);
    return gemv_reference(layer.gemv, x, data.weights, data.bias);
  }

  Loaded& loaded(const Layer& layer, const KernelSpec& spec) {
    const auto [entry, fresh] = loaded_.emplace(spec.job.name + std::string(spec.job.headers.back().text), Loaded{});
    if (fresh) {
      const auto compiled = compiler_->compile({spec.job})[0];
      entry->second.function = gpu_->load(compiled.cubin, spec.entry.c_str(),
                                              layer.kind == LayerKind::Conv ? static_cast<std::uint32_t>(target_.shared_bytes) : spec.shared_bytes);
      if (spec.workspace_bytes > 0) entry->second.workspace = gpu_->allocate(spec.workspace_bytes);
      if (spec.counters > 0) entry->second.counters = gpu_->allocate(spec.counters * 4);
    }
    return entry->second;
  }

  void launch(cuda::Stream stream, const Layer& layer, const KernelSpec& spec, bool programmatic, cuda::DevicePointer x,
              cuda::DevicePointer residual, cuda::DevicePointer y, const Data& data, const Data* later = nullptr) {
    Loaded& kernel = loaded(layer, spec);
    cuda::DevicePointer weights = data.device_weights, bias = data.device_bias;
    cuda::DevicePointer prefetch = later == nullptr ? 0 : later->device_weights;
    std::uint32_t prefetch_bytes = later == nullptr ? 0 : static_cast<std::uint32_t>(later->size.weights * 2);
    void* conv[] = {&x, &weights, &bias, &residual, &y, &kernel.workspace, &kernel.counters, &prefetch, &prefetch_bytes};
    void* other[] = {&x, &weights, &bias, &y};
    std::uint32_t shared = spec.shared_bytes;
    if (layer.kind == LayerKind::Conv) {
      if (spec.cluster > 1) narrow_ = false;  // narrow places would split clusters
      shared = codegen::launch_shared_bytes(shared, narrow_ ? codegen::Footprint::Narrow : codegen::Footprint::Wide, target_);
      narrow_ = !narrow_;
    }
    gpu_->launch(stream, kernel.function, spec.grid, spec.block, shared, spec.cluster, programmatic,
                 layer.kind == LayerKind::Conv ? conv : other);
  }

  static int pitch_of(const Layer& layer) {
    return layer.kind == LayerKind::Conv ? layer.conv.output_pitch : layer.kind == LayerKind::Window ? layer.window.output_pitch : layer.gemv.output_pitch;
  }
  static int channels_of(const Layer& layer) {
    return layer.kind == LayerKind::Conv ? layer.conv.out_channels : layer.kind == LayerKind::Window ? layer.window.channels : layer.gemv.outputs;
  }

  /// Elements of y outside the bound; elements between the rows of y that were written count too.
  std::size_t compare(const Layer& layer, cuda::DevicePointer y, const Data& data, const Reference& reference, bool padding) {
    const std::size_t pitch = static_cast<std::size_t>(pitch_of(layer)), channels = static_cast<std::size_t>(channels_of(layer));
    std::vector<float> values;
    std::size_t wrong = 0;
    if (layer.kind == LayerKind::Gemv) {
      values = gpu_->download<float>(y, data.size.output);
    } else {
      const auto halves = gpu_->download<std::uint16_t>(y, data.size.output);
      for (std::size_t i = 0; padding && i < halves.size(); ++i) wrong += i % pitch >= channels && halves[i] != 0xffff;
      values = from_halves(halves);
    }
    return wrong + count_wrong(reference, [&](std::size_t i) { return double(values[i / channels * pitch + i % channels]); }, 0x1p-11 * 1.01);
  }

  std::size_t check(const Layer& layer, const KernelSpec& spec, const Buffers& b, const Data& data, const Reference& reference) {
    std::size_t wrong = 0;
    for (int round = 0; round < 2; ++round) {  // twice: counters must be left as they were found
      gpu_->must(gpu_->driver.fill_bytes_async(b.y, 0xff, data.size.output * (layer.kind == LayerKind::Gemv ? 4 : 2), gpu_->stream), "memset");
      launch(gpu_->stream, layer, spec, false, b.x, b.residual, b.y, data);
      gpu_->must(gpu_->driver.stream_synchronize(gpu_->stream), spec.job.name.c_str());
      wrong += compare(layer, b.y, data, reference, true);
    }
    return wrong;
  }

  double time_node(const Layer& layer, const KernelSpec& spec, const Buffers& b, const Data& data) {
    double time[2];
    for (int which = 0; which < 2; ++which) {
      const cuda::GraphExec exec = gpu_->capture(gpu_->stream, [&](cuda::Stream stream) {
        for (int i = 0; i < (which == 0 ? 2 : 22); ++i) launch(stream, layer, spec, i > 0, b.x, b.residual, b.y, data);
      });
      time[which] = gpu_->time(gpu_->stream, exec, 25).median_us;
      gpu_->must(gpu_->driver.graph_exec_destroy(exec), "destroy");
    }
    return best_us_[spec.job.name] = (time[1] - time[0]) / 20;
  }

  std::size_t check_network(const Network& network, const std::vector<cuda::DevicePointer>& tensors, const std::vector<Data>& data) {
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
      const Layer& layer = network.layers[i];
      const auto fetch = [&](int tensor, std::size_t count) {
        if (tensor == 0) return gpu_->download<float>(tensors[0], count);
        return from_halves(gpu_->download<std::uint16_t>(tensors[static_cast<std::size_t>(tensor)], count));
      };
      const std::vector<float> x = fetch(layer.input, data[i].size.input);
      const std::vector<float> r = layer.residual >= 0 ? fetch(layer.residual, data[i].size.residual) : std::vector<float>{};
      const std::size_t here = compare(layer, tensors[i + 1], data[i], make_reference(layer, data[i], x, r), false);
      if (here != 0) std::printf("layer %zu: %zu elements wrong\n", i, here);
      wrong += here;
    }
    return wrong;
  }

  Options options_;
  Gpu* gpu_;
  ConvTarget target_;
  std::unique_ptr<codegen::Compiler> compiler_;
  std::set<std::string> spilling_;
  std::map<std::string, std::vector<KernelSpec>> distinct_;
  std::vector<std::pair<std::string, Layer>> order_;
  std::vector<std::pair<Layer, std::vector<KernelSpec>>> odd_;
  std::map<std::string, Loaded> loaded_;
  std::map<std::string, KernelSpec> best_;
  std::map<std::string, double> best_us_;
  std::FILE* log_ = nullptr;  // every candidate's time
  bool narrow_ = false;  // which footprint the next convolution takes
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i];
    if (key == "--cache") options.cache = argv[i + 1];
    else if (key == "--nvrtc") options.nvrtc = argv[i + 1];
    else if (key == "--networks") options.networks = argv[i + 1];
    else if (key == "--prefetch") options.prefetch = static_cast<std::size_t>(std::atoi(argv[i + 1]));
    else if (key == "--candidates") options.candidates = static_cast<std::size_t>(std::atoi(argv[i + 1]));
    else if (key == "--compile") options.compile_arch = static_cast<std::uint32_t>(std::atoi(argv[i + 1]));
  }
  if (options.cache.empty()) {
    std::fprintf(stderr, "usage: gpu_kernels --cache DIR [--nvrtc PATH] [--candidates N] [--networks a,b] [--compile ARCH]\n");
    return 1;
  }
  std::vector<Network> networks;
  for (const auto& make : {std::make_pair("resnet18", &resnet18), std::make_pair("resnet50", &resnet50), std::make_pair("mobilenet_v2", &mobilenet_v2)}) {
    if (("," + options.networks + ",").find("," + std::string(make.first) + ",") != std::string::npos) networks.push_back(make.second());
  }
  std::unique_ptr<Gpu> gpu;
  if (options.compile_arch == 0) gpu = std::make_unique<Gpu>();
  Bench bench(options, gpu.get());
  bench.plan(networks);
  if (gpu == nullptr) return 0;
  std::printf("%s, sm_%d, driver API %d\n\n", gpu->name.c_str(), gpu->arch, gpu->driver.version());
  bench.verify_odd();
  bench.tune();
  std::printf("| network | nodes | us | 5 - 95 %% | us without programmatic edges | sum of nodes | elements wrong | same bits after 500 runs |\n");
  std::printf("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const Network& network : networks) bench.run_network(network);
  return 0;
}
