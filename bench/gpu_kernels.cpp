// SPDX-License-Identifier: Apache-2.0
// Kernels on a GPU, one layer at a time and as whole networks. Each candidate tile of each distinct layer is checked
// element by element against a CPU reference and only then timed, as one node in a graph of equal dependent nodes; the
// best ones make up each network, which is captured as one graph, timed, and checked again layer by layer.
//
// gpu_kernels --cache DIR [--nvrtc PATH] [--candidates N] [--networks a,b] [--compile ARCH]
//             [--multiprocessors N] [--instructions ARCH] [--batch N] [--sample N]
//   --compile           fills the cache for a GPU with 132 multiprocessors and ends; needs no GPU
//   --multiprocessors   confined to that many of the GPU's; with --instructions as a smaller GPU's kernels
//   --batch             layers for that many images
//   --sample            beside the estimate's first candidates that many from all that it ranks, as far from each other
// The last three time convolutions and products alone, and run no network.
#include <chrono>
#include <cinttypes>
#include <fstream>
#include <map>
#include <set>

#include "bench/gpu_host.h"
#include "bench/gpu_layers.h"
#include "bench/gpu_odd_layers.h"
#include "bench/gpu_plan.h"
#include "bench/gpu_transformers.h"
#include "codegen/compiler.h"
#include "edgert/cuda/session.h"

namespace {

using namespace edgert;
using namespace edgert::bench;
using codegen::ConvShape;
using codegen::ConvTarget;
using codegen::KernelSpec;

struct Options {
  std::string cache, nvrtc, networks = "resnet18,resnet50,mobilenet_v2,mobilenet_v3,efficientnet_b0,vit_s16,bert_base";
  std::size_t candidates = 12;
  std::size_t prefetch = 2;  // how many steps ahead a step asks for weights
  std::uint32_t compile_arch = 0, instructions = 0;
  int multiprocessors = 0, batch = 1;
  std::size_t sample = 0;

  bool layers_alone() const { return batch > 1 || sample > 0 || multiprocessors > 0; }
};

class Bench {
 public:
  Bench(const Options& options, Gpu* gpu) : options_(options), gpu_(gpu) {
    codegen::CompilerOptions compiler;
    compiler.cache_directory = options.cache;
    compiler.nvrtc = options.nvrtc;
    compiler.threads = std::max(1u, std::thread::hardware_concurrency());
    if (options.instructions != 0 && gpu != nullptr) compiler.code_arch = static_cast<std::uint32_t>(gpu->arch);
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
    if (options.instructions != 0) {
      target_.arch = options.instructions;
      if (target_.arch < 90) target_.shared_bytes = std::min(target_.shared_bytes, 163 * 1024);
    }
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
  void plan(std::vector<Network>& networks) {
    for (Network& network : networks) {
      for (Layer& layer : network.layers) {
        if (options_.layers_alone() && layer.kind != LayerKind::Conv) continue;
        if (layer.kind == LayerKind::Conv) repeat(layer.conv, options_.batch);
        layer.key = layer_key(layer);
        if (distinct_.count(layer.key) > 0) continue;
        distinct_[layer.key] = candidates_of(layer, target_, options_.candidates);
        if (options_.sample > 0) add_sample(layer);
        order_.push_back(layer);
      }
    }
    for (const Layer& layer : options_.layers_alone() ? std::vector<Layer>{} : odd_layers()) {
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

  /// As many images; rows of a product follow each other.
  static void repeat(ConvShape& shape, int batch) {
    const bool rows = shape.out_height == 1 && shape.batch == 1 && !shape.scaled;
    if (rows) shape.width *= batch, shape.out_width *= batch;
    else shape.batch *= batch;
  }

  void add_sample(const Layer& layer) {
    std::vector<codegen::ConvTile> all = codegen::rank_conv_tiles(layer.conv, target_, 1000000);
    all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), options_.candidates)));
    // Most of what is ranked last is hopeless.
    const std::size_t some = all.size() / 2;
    for (std::size_t i = 0; i < options_.sample && i < some; ++i) {
      const double part = double(i) / double(options_.sample);
      distinct_[layer.key].push_back(codegen::make_conv(layer.conv, all[static_cast<std::size_t>(part * part * double(some))], target_));
    }
  }

  void verify_odd() {
    std::size_t checked = 0, bad = 0;
    for (const auto& [layer, list] : odd_) {
      Trial trial = make_trial(layer);
      for (const KernelSpec& spec : list) {
        ++checked;
        bad += !is_correct(layer, spec, trial);
      }
      release(trial);
    }
    std::printf("odd extents: %zu kernels checked, %zu wrong\n\n", checked, bad);
  }

  void tune() {
    std::printf("| layer | MMAC | floor us | best us | ratio | candidates us | best tile |\n| --- | --- | --- | --- | --- | --- | --- |\n");
    for (const Layer& layer : order_) {
      Trial trial = make_trial(layer);
      std::vector<std::pair<double, const KernelSpec*>> times;
      for (const KernelSpec& spec : distinct_[layer.key]) {
        if (spilling_.count(spec.job.name) == 0 && is_correct(layer, spec, trial)) times.emplace_back(time_node(layer, spec, trial), &spec);
      }
      const Sizes size = trial.data.size;
      release(trial);
      std::sort(times.begin(), times.end());
      if (times.empty()) continue;
      best_[layer.key] = *times[0].second;
      for (std::size_t i = 0; i < times.size(); ++i) std::fprintf(log_, "%.2f %s\n", times[i].first, times[i].second->job.name.c_str());
      std::fflush(log_);
      const double floor = 0.67 + std::max(size.bytes / 5.5e6, size.macs / 3.0e8);
      std::string list;
      char text[32];
      for (std::size_t i = 0; i < std::min<std::size_t>(6, times.size()); ++i) {
        std::snprintf(text, sizeof(text), "%.2f ", times[i].first);
        list += text;
      }
      std::printf("| %s | %.1f | %.2f | %.2f | %.2f | %s| %s |\n", short_name(layer, *times[0].second).c_str(), size.macs * 1e-6, floor,
                  times[0].first, times[0].first / floor, list.c_str(), tile_name(layer, *times[0].second).c_str());
      std::fflush(stdout);
    }
    std::printf("\n");
  }

  void run_network(const Network& network) {
    std::vector<cuda::DevicePointer> tensors;
    std::vector<Data> data;
    std::vector<const KernelSpec*> specs;
    for (const TensorSize& tensor : network.tensors) tensors.push_back(gpu_->allocate(tensor.elements * tensor.bytes, 0xff));
    const std::vector<float> image = network.token_input ? std::vector<float>{} : random_floats(3 * 224 * 224, 1.0f);
    write_inputs(network, tensors, image);
    double sum_us = 0;
    for (const Layer& layer : network.layers) {
      const auto found = best_.find(layer.key);
      if (found == best_.end()) {
        std::printf("%s: a layer has no correct kernel\n", network.name.c_str());
        return;
      }
      specs.push_back(&found->second);
      data.push_back(upload_data(layer, layer.residual >= 0 ? 0.5f : 1.0f));
      sum_us += best_us_[found->second.job.name];
    }
    const auto record = [&](bool programmatic, std::size_t layers = ~std::size_t{0}) {
      return [&, programmatic, layers](cuda::Stream stream) {
        narrow_ = false;
        for (std::size_t i = 0; i < std::min(layers, network.layers.size()); ++i) {
          const Layer& layer = network.layers[i];
          Places p;
          p.x = tensors[static_cast<std::size_t>(layer.input)];
          if (layer.constant_residual) p.residual = data[i].device_residual;
          else if (layer.residual >= 0) p.residual = tensors[static_cast<std::size_t>(layer.residual)];
          p.y = tensors[static_cast<std::size_t>(layer.output)] + layer.output_offset * 2;
          if (layer.scale >= 0) p.scale = tensors[static_cast<std::size_t>(layer.scale)];
          if (layer.sums >= 0) p.sums = tensors[static_cast<std::size_t>(layer.sums)];
          if (layer.normalized >= 0) p.normalized = tensors[static_cast<std::size_t>(layer.normalized)];
          const std::size_t later = i + options_.prefetch;
          if (options_.prefetch > 0 && later < network.layers.size() && network.layers[later].kind != LayerKind::Rows) {
            p.prefetch = data[later].device_weights;
            p.prefetch_bytes = static_cast<std::uint32_t>(data[later].size.weights * 2);
          }
          launch(stream, layer, *specs[i], programmatic && i > 0, p, data[i]);
        }
      };
    };
    std::size_t nodes = 0;
    const cuda::GraphExec plain = gpu_->capture(gpu_->stream, record(false), &nodes);
    const cuda::GraphExec programmatic = gpu_->capture(gpu_->stream, record(true), &nodes);
    gpu_->must(gpu_->driver.graph_launch(programmatic, gpu_->stream), "cuGraphLaunch");
    gpu_->must(gpu_->driver.stream_synchronize(gpu_->stream), "cuStreamSynchronize");
    const std::size_t wrong = check_network(network, tensors, data);
    const std::size_t result_bytes = network.tensors.back().elements * static_cast<std::size_t>(network.tensors.back().bytes);
    const auto first = gpu_->download<unsigned char>(tensors.back(), result_bytes);
    const Timing with = gpu_->time(gpu_->stream, programmatic, 500);
    const Timing without = gpu_->time(gpu_->stream, plain, 300);
    const bool same = first == gpu_->download<unsigned char>(tensors.back(), result_bytes);
    print_steps(network, specs, record);
    std::printf("| %s | %zu | %.1f | %.1f - %.1f | %.1f | %.1f | %zu | %s |\n", network.name.c_str(), nodes, with.median_us, with.low_us,
                with.high_us, without.median_us, sum_us, wrong, same ? "yes" : "NO");
    std::fflush(stdout);
    if (is_convolutional(network)) {
      const double bare = host_us([&] { gpu_->must(gpu_->driver.graph_launch(programmatic, gpu_->stream), "cuGraphLaunch"); });
      run_plan(network, specs, data, image, gpu_->download<float>(tensors.back(), network.tensors.back().elements), bare);
    }
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
        step.shared_bytes = codegen::launch_shared_bytes(step.spec, narrow ? codegen::Footprint::Narrow : codegen::Footprint::Wide, target_);
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
  /// A layer by itself: parameters, inputs, what should come out.
  struct Trial {
    Data data;
    Places places;
    References reference;
    std::vector<cuda::DevicePointer> more_weights;  ///< the same ones in other places
  };

  /// Kinds that gpu_plan.h knows.
  static bool is_convolutional(const Network& network) {
    return std::all_of(network.layers.begin(), network.layers.end(), [](const Layer& layer) { return layer.kind <= LayerKind::Gemv && layer.scale < 0; });
  }

  Data upload_data(const Layer& layer, float gain) {
    Data data = random_parameters(layer, gain);
    data.device_weights = gpu_->upload(pack(layer, data));
    if (layer.kind == LayerKind::Conv && layer.conv.out_height == 1) {
      codegen::ConvTile tile;
      tile.groups_of_warps = true;
      data.device_group_weights = gpu_->upload(codegen::pack_conv_weights(layer.conv, tile, data.weights.data()));
    }
    data.device_bias = gpu_->upload(data.bias);
    if (layer.constant_residual) data.device_residual = gpu_->upload(to_halves(data.residual));
    return data;
  }

  static std::vector<int> random_numbers(std::size_t count) {
    std::vector<int> out;
    for (std::size_t i = 0; i < count; ++i) out.push_back(static_cast<int>(random_bits() % (i < count / 2 ? 30522u : 2u)));
    return out;
  }

  /// The image, or numbers of tokens and segments and a mask that forbids the last tokens.
  void write_inputs(const Network& network, const std::vector<cuda::DevicePointer>& tensors, const std::vector<float>& image) {
    if (!network.token_input) {
      gpu_->must(gpu_->driver.copy_to_device(tensors[0], image.data(), image.size() * 4), "cuMemcpyHtoD");
      return;
    }
    const std::vector<int> numbers = random_numbers(network.tensors[0].elements);
    gpu_->must(gpu_->driver.copy_to_device(tensors[0], numbers.data(), numbers.size() * 4), "cuMemcpyHtoD");
    std::vector<float> mask(network.tensors[1].elements, 0.0f);
    for (std::size_t i = mask.size() - 9; i < mask.size(); ++i) mask[i] = -65504.0f;
    const auto bits = to_halves(mask);
    gpu_->must(gpu_->driver.copy_to_device(tensors[1], bits.data(), bits.size() * 2), "cuMemcpyHtoD");
  }

  static bool has_numbers(const Layer& layer) { return layer.kind == LayerKind::Rows && !layer.rows_of_input && layer.rows.tables[0].index_bytes != 0; }

  Trial make_trial(const Layer& layer) {
    Trial t;
    t.data = upload_data(layer, 1.0f);
    const Sizes& size = t.data.size;
    std::vector<float> x = random_floats(size.input, 1.0f);
    const std::vector<float> r = random_floats(size.residual, 1.0f), f = random_floats(size.scale, 1.0f);
    if (size.scale > 0) t.places.scale = gpu_->upload(to_halves(f));
    if (has_numbers(layer)) {
      const std::vector<int> numbers = random_numbers(size.input);
      x.assign(numbers.begin(), numbers.end());
      t.places.x = gpu_->upload(numbers);
    } else {
      const bool floats = (layer.kind == LayerKind::Conv && layer.conv.image) || (layer.kind == LayerKind::Gemv && layer.gemv.float_input);
      t.places.x = floats ? gpu_->upload(x) : gpu_->upload(to_halves(x));
    }
    if (size.residual > 0) t.places.residual = gpu_->upload(to_halves(layer.constant_residual ? t.data.residual : r));
    if (size.sums > 0) t.places.sums = gpu_->allocate(size.sums * 4);
    if (size.normalized > 0) t.places.normalized = gpu_->allocate(size.normalized * 2);
    t.places.y = gpu_->allocate(size.output * 4);
    t.reference = make_references(layer, t.data, x, r, f);
    if (options_.layers_alone() && layer.kind == LayerKind::Conv) {
      const auto packed = pack(layer, t.data);
      for (int i = 1; i < 2 + kMoreNodes; ++i) t.more_weights.push_back(gpu_->upload(packed));
    }
    return t;
  }
  void release(Trial& t) {
    for (const cuda::DevicePointer p : {t.places.x, t.places.residual, t.places.y, t.places.normalized, t.places.scale, t.places.sums, t.data.device_weights, t.data.device_group_weights,
                                        t.data.device_bias, t.data.device_residual}) {
      if (p != 0) gpu_->free(p);
    }
    for (const cuda::DevicePointer p : t.more_weights) gpu_->free(p);
  }

  /// Node i's share of a trial. Where layers are timed alone, each node has weights of its own, as in a network, and asks for
  /// those of the second one after it.
  std::pair<Places, Data> of_node(const Trial& t, std::size_t i) const {
    std::pair<Places, Data> out{t.places, {}};
    out.second.size = t.data.size;
    out.second.device_bias = t.data.device_bias, out.second.device_residual = t.data.device_residual, out.second.device_group_weights = t.data.device_group_weights;
    const auto weights = [&t](std::size_t node) { return node % (t.more_weights.size() + 1) == 0 ? t.data.device_weights : t.more_weights[node % (t.more_weights.size() + 1) - 1]; };
    out.second.device_weights = weights(i);
    if (!t.more_weights.empty()) out.first.prefetch = weights(i + 2), out.first.prefetch_bytes = static_cast<std::uint32_t>(t.data.size.weights * 2);
    return out;
  }

  Loaded& loaded(const Layer& layer, const KernelSpec& spec) {
    const auto [entry, fresh] = loaded_.emplace(spec.job.name + std::string(spec.job.headers.back().text), Loaded{});
    if (fresh) {
      const auto compiled = compiler_->compile({spec.job})[0];
      entry->second.function = gpu_->load(compiled.cubin, spec.entry.c_str(),
                                          spreads(layer) ? static_cast<std::uint32_t>(target_.shared_bytes) : spec.shared_bytes);
      if (spec.workspace_bytes > 0) entry->second.workspace = gpu_->allocate(spec.workspace_bytes);
      if (spec.counters > 0) entry->second.counters = gpu_->allocate(spec.counters * 4);
    }
    return entry->second;
  }

  /// Kernels whose grids fill the device once ask for more shared memory than they need (codegen::launch_shared_bytes).
  static bool spreads(const Layer& layer) { return layer.kind == LayerKind::Conv || layer.kind == LayerKind::Attention || layer.kind == LayerKind::Expand; }

  void launch(cuda::Stream stream, const Layer& layer, const KernelSpec& spec, bool programmatic, Places places, const Data& data) {
    Loaded& kernel = loaded(layer, spec);
    places.workspace = kernel.workspace;
    places.counters = kernel.counters;
    std::uint32_t shared = spec.shared_bytes;
    if (spreads(layer)) {
      if (spec.cluster > 1) narrow_ = false;  // narrow places would split clusters
      shared = codegen::launch_shared_bytes(spec, narrow_ ? codegen::Footprint::Narrow : codegen::Footprint::Wide, target_);
      narrow_ = !narrow_;
    }
    gpu_->launch(stream, kernel.function, spec.grid, spec.block, shared, spec.cluster, programmatic, Arguments(layer, spec, places, data).get());
  }

  static constexpr int kMoreNodes = 6;  ///< whose time is taken, where layers are timed alone
  static constexpr double kHalfRounding = 0x1p-11 * 1.01;

  /// Elements of y outside the bound; with `padding`, elements between the rows of y that were written count too.
  std::size_t compare(const Sizes& size, cuda::DevicePointer y, const Reference& reference, bool padding) {
    std::vector<float> values;
    std::size_t wrong = 0;
    if (size.output_bytes == 4) {
      values = gpu_->download<float>(y, size.output);
    } else {
      const auto halves = gpu_->download<std::uint16_t>(y, size.output);
      for (std::size_t i = 0; padding && i < halves.size(); ++i) wrong += i % size.pitch >= size.channels && halves[i] != 0xffff;
      values = from_halves(halves);
    }
    return wrong + count_wrong(reference, [&](std::size_t i) { return double(values[i / size.channels * size.pitch + i % size.channels]); }, kHalfRounding);
  }
  std::size_t compare_normalized(const Layer& layer, cuda::DevicePointer y, const Data& data, const Reference& reference) {
    if (data.size.normalized == 0) return 0;
    const std::vector<float> values = from_halves(gpu_->download<std::uint16_t>(y, data.size.normalized));
    const std::size_t channels = static_cast<std::size_t>(layer.conv.channels), pitch = static_cast<std::size_t>(layer.conv.input_pitch);
    return count_wrong(reference, [&](std::size_t i) { return double(values[i / channels * pitch + i % channels]); }, kHalfRounding);
  }

  /// Sums over all slices.
  std::size_t compare_sums(const Data& data, cuda::DevicePointer y, const Reference& reference) {
    if (data.size.sums == 0) return 0;
    const std::vector<float> values = gpu_->download<float>(y, data.size.sums);
    std::vector<double> total(data.size.channels, 0.0);
    for (std::size_t i = 0; i < values.size(); ++i) total[i % total.size()] += double(values[i]);
    return count_wrong(reference, [&](std::size_t i) { return total[i]; }, 0x1p-20);
  }

  bool is_correct(const Layer& layer, const KernelSpec& spec, const Trial& t) {
    std::size_t wrong = 0;
    for (int round = 0; round < (options_.sample > 0 ? 1 : 2); ++round) {  // twice: counters must be left as they were found
      const Sizes& size = t.data.size;
      gpu_->must(gpu_->driver.fill_bytes_async(t.places.y, 0xff, size.output * size.output_bytes, gpu_->stream), "memset");
      if (size.normalized > 0) gpu_->must(gpu_->driver.fill_bytes_async(t.places.normalized, 0xff, size.normalized * 2, gpu_->stream), "memset");
      launch(gpu_->stream, layer, spec, false, t.places, t.data);
      gpu_->must(gpu_->driver.stream_synchronize(gpu_->stream), spec.job.name.c_str());
      wrong += compare(size, t.places.y, t.reference.y, true) + compare_normalized(layer, t.places.normalized, t.data, t.reference.normalized) +
               compare_sums(t.data, t.places.sums, t.reference.sums);
    }
    if (wrong != 0) std::printf("WRONG %zu of %zu: %s\n", wrong, t.reference.y.value.size(), spec.job.name.c_str());
    return wrong == 0;
  }

  double time_node(const Layer& layer, const KernelSpec& spec, const Trial& t) {
    double time[2];
    const int more = options_.layers_alone() ? kMoreNodes : 20;
    const bool programmatic = target_.arch == static_cast<std::uint32_t>(gpu_->arch);
    for (int which = 0; which < 2; ++which) {
      const cuda::GraphExec exec = gpu_->capture(gpu_->stream, [&](cuda::Stream stream) {
        for (int i = 0; i < (which == 0 ? 2 : 2 + more); ++i) {
          const auto [places, data] = of_node(t, static_cast<std::size_t>(i));
          launch(stream, layer, spec, i > 0 && programmatic, places, data);
        }
      });
      time[which] = gpu_->time(gpu_->stream, exec, options_.layers_alone() ? 9 : 25).median_us;
      gpu_->must(gpu_->driver.graph_exec_destroy(exec), "destroy");
    }
    return best_us_[spec.job.name] = (time[1] - time[0]) / more;
  }

  std::size_t check_network(const Network& network, const std::vector<cuda::DevicePointer>& tensors, const std::vector<Data>& data) {
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
      const Layer& layer = network.layers[i];
      const auto fetch = [&](int tensor, std::size_t count) {
        const cuda::DevicePointer from = tensors[static_cast<std::size_t>(tensor)];
        if (has_numbers(layer)) {
          const auto numbers = gpu_->download<int>(from, count);
          return std::vector<float>(numbers.begin(), numbers.end());
        }
        if (network.tensors[static_cast<std::size_t>(tensor)].bytes == 4) return gpu_->download<float>(from, count);
        return from_halves(gpu_->download<std::uint16_t>(from, count));
      };
      const Sizes& size = data[i].size;
      const std::vector<float> x = fetch(layer.input, size.input);
      const std::vector<float> r = layer.residual >= 0 ? fetch(layer.residual, size.residual) : std::vector<float>{};
      const std::vector<float> f = layer.scale >= 0 ? fetch(layer.scale, size.scale) : std::vector<float>{};
      const References reference = make_references(layer, data[i], x, r, f);
      std::size_t here = compare(size, tensors[static_cast<std::size_t>(layer.output)] + layer.output_offset * 2, reference.y, false);
      if (layer.normalized >= 0) here += compare_normalized(layer, tensors[static_cast<std::size_t>(layer.normalized)], data[i], reference.normalized);
      if (layer.sums >= 0) here += compare_sums(data[i], tensors[static_cast<std::size_t>(layer.sums)], reference.sums);
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
  std::vector<Layer> order_;
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
    else if (key == "--multiprocessors") options.multiprocessors = std::atoi(argv[i + 1]);
    else if (key == "--instructions") options.instructions = static_cast<std::uint32_t>(std::atoi(argv[i + 1]));
    else if (key == "--batch") options.batch = std::atoi(argv[i + 1]);
    else if (key == "--sample") options.sample = static_cast<std::size_t>(std::atoi(argv[i + 1]));
    else if (key == "--compile") options.compile_arch = static_cast<std::uint32_t>(std::atoi(argv[i + 1]));
  }
  if (options.cache.empty()) {
    std::fprintf(stderr, "usage: gpu_kernels --cache DIR [--nvrtc PATH] [--candidates N] [--networks a,b] [--compile ARCH] [--multiprocessors N] [--instructions ARCH] [--batch N] [--sample N]\n");
    return 1;
  }
  std::vector<Network> networks;
  for (const auto& make : {std::make_pair("resnet18", &resnet18), std::make_pair("resnet50", &resnet50), std::make_pair("mobilenet_v2", &mobilenet_v2),
                           std::make_pair("mobilenet_v3", &mobilenet_v3_large), std::make_pair("efficientnet_b0", &efficientnet_b0),
                           std::make_pair("vit_s16", &vit_s16), std::make_pair("bert_base", &bert_base)}) {
    if (("," + options.networks + ",").find("," + std::string(make.first) + ",") != std::string::npos) networks.push_back(make.second());
  }
  std::unique_ptr<Gpu> gpu;
  if (options.compile_arch == 0) gpu = std::make_unique<Gpu>(options.multiprocessors);
  Bench bench(options, gpu.get());
  bench.plan(networks);
  if (gpu == nullptr) return 0;
  std::printf("%s, sm_%d, driver API %d\n\n", gpu->name.c_str(), gpu->arch, gpu->driver.version());
  if (!options.layers_alone()) bench.verify_odd();
  bench.tune();
  if (options.layers_alone()) return 0;
  std::printf("| network | nodes | us | 5 - 95 %% | us without programmatic edges | sum of nodes | elements wrong | same bits after 500 runs |\n");
  std::printf("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const Network& network : networks) bench.run_network(network);
  return 0;
}
