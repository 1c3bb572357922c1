// SPDX-License-Identifier: Apache-2.0
// choose_winograd alone on numbers: which convolutions it takes, with which tile, and that they stay what they are; and that
// a plan with its large weights is built without them in memory.
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "edgert/crc32c.h"
#include "pass_net.h"
#include "plan/build.h"

using namespace edgert;
using namespace edgert::test;

namespace {

/// A convolution of `size` x `size` images that a pass may replace; nothing else in the graph.
struct ConvNet : Net {
  ConvNet(std::int64_t channels, std::int64_t size, std::int64_t filters, std::int32_t stride = 1,
          std::int32_t dilation = 1, int kernel = 3) {
    const ValueId x = input({1, channels, size, size});
    cpu::ConvAttributes a{};
    for (std::size_t i = 0; i < 2; ++i) {
      a.kernel[i] = kernel;
      a.stride[i] = stride;
      a.dilation[i] = dilation;
      a.pad_begin[i] = a.pad_end[i] = dilation * (kernel / 2);
    }
    a.pad_end[1] = a.pad_begin[1] + 1;  // nothing needs to be symmetric
    a.groups = 1;
    a.epilogue.activation = PointwiseOp::LeakyRelu;
    a.epilogue.alpha = 0.1f;
    output(node(ops::kConv, {x, random({filters, channels, kernel, kernel}), random({filters}), kNone}, a));
  }
  int tile() const { return maker_of_output().as<cpu::WinogradConvAttributes>().tile; }
};

}  // namespace

TEST_CASE("choose_winograd: 2x2 tiles for small images, 4x4 for large ones") {
  ConvNet small(32, 11, 33);
  CHECK(small.check(&passes::choose_winograd) == 1);
  CHECK(small.tile() == 2);
  CHECK(small.maker_of_output().provenance.size() == 1);
  ConvNet large(32, 26, 32);
  CHECK(large.check(&passes::choose_winograd) == 1);
  CHECK(large.tile() == 4);
}

TEST_CASE("choose_winograd leaves what would not gain, or cannot be done") {
  for (ConvNet net : {ConvNet(16, 26, 32), ConvNet(40, 11, 32), ConvNet(32, 11, 16), ConvNet(32, 6, 32),
                      ConvNet(32, 26, 32, 2), ConvNet(32, 16, 32, 1, 2), ConvNet(32, 12, 32, 1, 1, 1)}) {
    CHECK(net.check(&passes::choose_winograd) == 0);
    CHECK(net.count(ops::kConv) == 1);
  }
}

namespace {

/// Convolutions whose transformed weights are four times as large as they are.
struct LargeNet : Net {
  static constexpr std::int64_t kLayers = 8, kChannels = 256;
  LargeNet() {
    ValueId x = input({1, kChannels, 26, 26});
    for (std::int64_t i = 0; i < kLayers; ++i) x = conv(x, kChannels, 3, 1);
    output(x);
  }
  static constexpr std::size_t plan_bytes() { return kLayers * kChannels * kChannels * 36 * sizeof(float); }
};

std::vector<ir::Graph> graphs_of(LargeNet&& net) {
  std::vector<ir::Graph> graphs;
  graphs.push_back(std::move(net.graph));
  return graphs;
}

/// Of a plan that is written piece by piece.
struct Written {
  std::uint64_t bytes = 0;
  std::uint32_t crc = 0;
};
Written written(LargeNet&& net) {
  Written all;
  plan::BuildOptions options;
  options.sink = [&all](const std::byte* data, std::uint64_t size) {
    all.bytes += size;
    all.crc = crc32c(data, size, all.crc);
  };
  const plan::BuildResult result = plan::build(graphs_of(std::move(net)), options);
  CHECK(result.bytes.empty());
  CHECK(result.plan_bytes == all.bytes);
  return all;
}

}  // namespace

TEST_CASE("a plan written piece by piece is the plan in memory") {
  const Written pieces = written(LargeNet());
  const std::vector<std::byte> whole = plan::build(graphs_of(LargeNet())).bytes;
  CHECK(pieces.bytes == whole.size());
  CHECK(pieces.crc == crc32c(whole.data(), whole.size()));
  CHECK(whole.size() > LargeNet::plan_bytes());
}

// AddressSanitizer keeps freed memory.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EDGERT_TEST_ASAN 1
#endif
#endif
#if !defined(__SANITIZE_ADDRESS__) && !defined(EDGERT_TEST_ASAN)
TEST_CASE("transformed weights do not meet in memory") {
  int channel[2];
  REQUIRE(pipe(channel) == 0);
  const pid_t child = fork();  // so that other tests' peaks do not count
  REQUIRE(child >= 0);
  if (child == 0) {
    LargeNet net;
    const auto kilobytes = [](const std::string& which) {
      std::size_t count = 0;
      std::ifstream status("/proc/self/status");
      for (std::string word; status >> word;) {
        if (word == which) status >> count;
      }
      return count;
    };
    const std::size_t before = kilobytes("VmRSS:");
    static_cast<void>(written(std::move(net)));
    const std::size_t used = kilobytes("VmHWM:") - before;
    _exit(write(channel[1], &used, sizeof(used)) == sizeof(used) ? 0 : 1);
  }
  std::size_t used = 0;
  REQUIRE(read(channel[0], &used, sizeof(used)) == sizeof(used));
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  MESSAGE("beyond the graph: " << used << " kB for a plan of " << LargeNet::plan_bytes() / 1024 << " kB");
  CHECK(used > 100);
  CHECK(used * 1024 < LargeNet::plan_bytes() / 2);
  close(channel[0]);
  close(channel[1]);
}
#endif
