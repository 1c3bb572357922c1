// SPDX-License-Identifier: Apache-2.0
// .npy and .npz: headers written out by hand, round trips, every byte of a file damaged, and numpy itself where
// EDGERT_NUMPY_PYTHON names a Python that has it.
#include <doctest/doctest.h>

#include <zip.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "io/file.h"
#include "io/npz.h"
#include "io_folder.h"

using edgert::DType;
using edgert::io::Array;
using edgert::io::Arrays;
using edgert::io::IoError;
using edgert::io::parse_npy;
using edgert::io::parse_npz;
using edgert::ir::BuildError;
using edgert::ir::Dims;
using io_test::bytes_of;
using io_test::contains;
using io_test::Folder;
using io_test::message_of;

namespace {

std::string npy(const std::string& dictionary, const std::string& data, int version = 1) {
  std::string file = "\x93NUMPY";
  file += static_cast<char>(version);
  file += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) file += static_cast<char>(dictionary.size() >> 8 * i);
  return file + dictionary + data;
}

std::string header(const std::string& descr, const std::string& shape, const std::string& order = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

Array parse(const std::string& file) { return parse_npy(bytes_of(file), "x.npy"); }
std::string refused(const std::string& file) {
  return message_of<BuildError>([&] { parse(file); });
}

template <class T>
Array array_of(DType dtype, const Dims& dims, const std::vector<T>& values) {
  Array array = {dtype, dims, std::vector<std::byte>(values.size() * sizeof(T))};
  if (!values.empty()) std::memcpy(array.bytes.data(), values.data(), array.bytes.size());
  return array;
}

bool same(const Array& a, const Array& b) { return a.dtype == b.dtype && a.dims == b.dims && a.bytes == b.bytes; }

Arrays samples() {
  Arrays arrays;
  arrays["f32"] = array_of<float>(DType::F32, {2, 3}, {0, -1, 2.5f, 1e30f, 4, 5});
  arrays["/layer.0/Conv_output_0"] = array_of<std::int64_t>(DType::I64, {3}, {-1, 0, INT64_MAX});
  arrays["scalar"] = array_of<double>(DType::F64, {}, {0.1});
  arrays["empty"] = array_of<std::uint8_t>(DType::U8, {0, 5}, {});
  arrays["größe"] = array_of<std::uint16_t>(DType::U16, {1, 1, 2}, {7, 65535});
  arrays["bool"] = array_of<std::uint8_t>(DType::Bool, {2}, {0, 1});
  return arrays;
}

/// A zip file with the given members, made by libzip, compressed or not.
std::string zip_of(const std::vector<std::pair<std::string, std::string>>& members, int method) {
  const Folder folder;
  zip_t* archive = zip_open(folder.file("a.zip").c_str(), ZIP_CREATE, nullptr);
  REQUIRE(archive != nullptr);
  for (const auto& [name, content] : members) {
    zip_source_t* source = zip_source_buffer(archive, content.data(), content.size(), 0);
    const zip_int64_t index = zip_file_add(archive, name.c_str(), source, ZIP_FL_ENC_UTF_8);
    REQUIRE(index >= 0);
    zip_set_file_compression(archive, static_cast<zip_uint64_t>(index), method, 9);
  }
  REQUIRE(zip_close(archive) == 0);
  return io_test::content_of(folder.file("a.zip"));
}

std::string refused_npz(const std::string& file) {
  return message_of<BuildError>([&] { parse_npz(bytes_of(file), "x.npz"); });
}

}  // namespace

TEST_CASE("npy: types, versions, orders of bytes") {
  const std::string data("\x01\0\0\0\x02\0\0\0", 8);
  for (const int version : {1, 2, 3}) {
    const Array array = parse(npy(header("<i4", "(2,)"), data, version));
    CHECK(same(array, array_of<std::int32_t>(DType::I32, {2}, {1, 2})));
  }
  CHECK(parse(npy(header("<i8", "()"), data)).dims.empty());
  CHECK(parse(npy(header("<f2", "(2, 2)"), data)).dtype == DType::F16);
  CHECK(parse(npy(header("<u2", "(4,)"), data)).dtype == DType::U16);
  CHECK(parse(npy(header("|u1", "(8,)"), data)).dtype == DType::U8);
  CHECK(parse(npy(header("<i1", "(8,)"), data)).dtype == DType::I8);
  CHECK(same(parse(npy(header("|b1", "(8,)"), data)),
             array_of<std::uint8_t>(DType::Bool, {8}, {1, 0, 0, 0, 1, 0, 0, 0})));
  CHECK(parse(npy("{\"shape\":(2,) ,\"fortran_order\":False,\"descr\":\"<f4\"}", data)).dtype == DType::F32);
  CHECK(parse(npy(header("<f4", "(0, 3)"), "")).dims == Dims{0, 3});

  CHECK(contains(refused(npy(header(">f4", "(2,)"), data)), "x.npy: big-endian arrays ('>f4')"));
  CHECK(contains(refused(npy(header("<c8", "(1,)"), data)), "arrays of type '<c8' are not supported"));
  CHECK(contains(refused(npy(header("|O", "(1,)"), data)), "'|O'"));
  CHECK(contains(refused(npy(header("<f16", "(1,)"), data)), "'<f16'"));
  CHECK(contains(refused(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", data)),
                 "structured"));
}

TEST_CASE("npy: Fortran order is turned into row-major") {
  // Element (i, j, k) of shape 2x3x4 has the value i + 2j + 6k, stored in ascending order.
  std::vector<std::uint8_t> expected;
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 4; ++k) expected.push_back(static_cast<std::uint8_t>(i + 2 * j + 6 * k));
    }
  }
  std::string data;
  std::string wide;
  for (int i = 0; i < 24; ++i) {
    data += static_cast<char>(i);
    wide += std::string(1, static_cast<char>(i)) + std::string(7, '\0');
  }
  CHECK(same(parse(npy(header("|u1", "(2, 3, 4)", "True"), data)), array_of(DType::U8, {2, 3, 4}, expected)));
  CHECK(same(parse(npy(header("<i8", "(2, 3, 4)", "True"), wide)),
             array_of(DType::I64, {2, 3, 4}, std::vector<std::int64_t>(expected.begin(), expected.end()))));
  CHECK(parse(npy(header("|u1", "(24,)", "True"), data)).bytes.back() == std::byte{23});
  CHECK(parse(npy(header("|u1", "(3, 0, 4)", "True"), "")).bytes.empty());
}

TEST_CASE("npy: headers that lie are refused") {
  const std::string data(24, 'x');
  CHECK(contains(refused(""), "not a numpy array"));
  CHECK(contains(refused("PK\x03\x04 and so on"), "not a numpy array"));
  CHECK(contains(refused(npy(header("<f4", "(7,)"), data)), "needs 28 bytes of data, the file has 24"));
  CHECK(contains(refused(npy(header("<f4", "(5,)"), data)), "needs 20 bytes of data, the file has 24"));
  CHECK(contains(refused(npy(header("<f4", "(4294967296, 4294967296)"), data)), "too many elements"));
  CHECK(contains(refused(npy(header("<f4", "(99999999999999999999,)"), data)), "too large"));
  CHECK(contains(refused(npy(header("<f4", "(-6,)"), data)), "malformed shape"));
  CHECK(contains(refused(npy(header("<f4", "6"), data)), "malformed header"));
  CHECK(contains(refused(npy(header("<f4", "(6"), data)), "malformed shape"));
  CHECK(contains(refused(npy(header("<f4", "(1,1,1,1,1,1,1,1,6)"), data)), "more than 8 dimensions"));
  CHECK(contains(refused(npy(header("<f4", "(6,)", "Maybe"), data)), "malformed header"));
  CHECK(contains(refused(npy("{'descr': '<f4', 'shape': (6,)}", data)), "malformed header"));
  CHECK(contains(refused(npy("{'descr': '<f4', 'descr': '<f4'}", data)), "repeated key 'descr'"));
  CHECK(contains(refused(npy("{'colour': 'red'}", data)), "unknown or repeated key 'colour'"));
  CHECK(contains(refused(npy(header("<f4", "(6,)") + "more", data)), "malformed header"));
  CHECK(contains(refused(npy(header("<f4", "(6,)"), data, 9)), "unknown version"));
  CHECK(contains(refused(std::string("\x93NUMPY\x01\0\xff\xff{", 11)), "cut off"));
  CHECK(contains(refused(std::string("\x93NUMPY\x02\0\xff\xff", 10)), "cut off"));
  CHECK(contains(refused(std::string("\x93NUMPY\x02\0\xff\xff\xff\xff{}", 14)), "too long"));
}

TEST_CASE("npy: a file is written and read back") {
  const Folder folder;
  for (const auto& entry : samples()) {
    const std::string& name = entry.first;
    const auto& array = entry.second;
    CAPTURE(name);
    edgert::io::write_npy(folder.file("a.npy"), array);
    CHECK(same(edgert::io::read_npy(folder.file("a.npy")), array));
    const std::string file = io_test::content_of(folder.file("a.npy"));
    CHECK((file.size() - array.bytes.size()) % 64 == 0);
  }
  Array wrong = array_of<float>(DType::F32, {2}, {1});
  CHECK_THROWS_AS(edgert::io::write_npy(folder.file("b.npy"), wrong), std::logic_error);
  wrong.dtype = DType::BF16;
  CHECK(contains(message_of<BuildError>([&] { edgert::io::write_npy(folder.file("b.npy"), wrong); }), "bf16"));
  CHECK(contains(message_of<IoError>([&] { edgert::io::read_npy(folder.file("b.npy")); }), "No such file"));
}

TEST_CASE("npz: arrays are written and read back, equal ones to equal bytes") {
  const Folder folder;
  const Arrays arrays = samples();
  edgert::io::write_npz(folder.file("a.npz"), arrays);
  const Arrays back = edgert::io::read_npz(folder.file("a.npz"));
  REQUIRE(back.size() == arrays.size());
  for (const auto& entry : arrays) {
    const std::string& name = entry.first;
    const auto& array = entry.second;
    CAPTURE(name);
    REQUIRE(back.count(name) == 1);
    CHECK(same(back.at(name), array));
  }
  edgert::io::write_npz(folder.file("b.npz"), arrays);
  CHECK(io_test::content_of(folder.file("a.npz")) == io_test::content_of(folder.file("b.npz")));
  edgert::io::write_npz(folder.file("b.npz"), {});
  CHECK(edgert::io::read_npz(folder.file("b.npz")).empty());
  CHECK(folder.count() == 2);
}

TEST_CASE("npz: big arrays go through whole") {
  const Folder folder;
  std::vector<std::uint32_t> values(3'000'000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint32_t>(i * 2654435761u);
  const Arrays arrays = {{"big", array_of(DType::U32, {3, 1000, 1000}, values)}};
  edgert::io::write_npz(folder.file("a.npz"), arrays);
  CHECK(same(edgert::io::read_npz(folder.file("a.npz")).at("big"), arrays.at("big")));
}

TEST_CASE("npz: failures to write leave nothing behind") {
  const Folder folder;
  Arrays arrays = samples();
  CHECK(contains(message_of<IoError>([&] { edgert::io::write_npz(folder.file("no/a.npz"), arrays); }), "No such file"));
  CHECK(contains(message_of<IoError>([&] { edgert::io::write_npz("/dev/full", arrays); }), "No space left on device"));
  arrays["bad\xff"] = arrays["f32"];
  CHECK(contains(message_of<IoError>([&] { edgert::io::write_npz(folder.file("a.npz"), arrays); }), "bad"));
  arrays.clear();
  arrays["half"] = {DType::BF16, {1}, std::vector<std::byte>(2)};
  CHECK(contains(message_of<BuildError>([&] { edgert::io::write_npz(folder.file("a.npz"), arrays); }), "array 'half'"));
  CHECK(folder.count() == 0);
}

TEST_CASE("npz: deflated members and members that are no arrays") {
  const std::string zeros = npy(header("<f4", "(1000,)"), std::string(4000, '\0'));
  for (const int method : {ZIP_CM_STORE, ZIP_CM_DEFLATE}) {
    const Arrays arrays = parse_npz(bytes_of(zip_of({{"zeros.npy", zeros}}, method)), "x.npz");
    CHECK(arrays.at("zeros").bytes == std::vector<std::byte>(4000));
  }
  CHECK(contains(refused_npz(zip_of({{"notes.txt", "hello"}}, ZIP_CM_STORE)), "x.npz: 'notes.txt' is no .npy array"));
  CHECK(contains(refused_npz(zip_of({{"a.npy", "hello"}}, ZIP_CM_STORE)), "x.npz: array 'a': not a numpy array"));
  CHECK(contains(refused_npz("hello"), "x.npz: not an npz file"));
  CHECK(contains(refused_npz(""), "x.npz: not an npz file"));
}

TEST_CASE("npz: two arrays of one name are refused") {
  const std::string array = npy(header("|u1", "(1,)"), "x");
  std::string file = zip_of({{"a.npy", array}, {"b.npy", array}}, ZIP_CM_STORE);
  // libzip writes no such file: rename the second member in both of its headers.
  for (std::size_t at = file.find("b.npy"); at != std::string::npos; at = file.find("b.npy")) file[at] = 'a';
  CHECK(contains(refused_npz(file), "array 'a' is there twice"));
}

TEST_CASE("npz: sizes that a member does not have are refused") {
  const std::string array = npy(header("|u1", "(1000,)"), std::string(1000, 'x'));
  const std::string sound = zip_of({{"a.npy", array}}, ZIP_CM_DEFLATE);
  const std::size_t directory = sound.find("PK\x01\x02");
  REQUIRE(directory != std::string::npos);
  for (const std::uint32_t claimed : {std::uint32_t{0}, std::uint32_t{10}, std::uint32_t{0xfffffff0}}) {
    CAPTURE(claimed);
    std::string file = sound;
    std::memcpy(file.data() + directory + 24, &claimed, 4);
    CHECK(!refused_npz(file).empty());
  }
}

TEST_CASE("npz: a cut or damaged file ends in an error or in the right arrays") {
  const Folder folder;
  edgert::io::write_npz(folder.file("a.npz"), samples());
  const std::string stored = io_test::content_of(folder.file("a.npz"));
  const std::string zeros = npy(header("<f4", "(100,)"), std::string(400, '\0'));
  const std::string deflated = zip_of({{"zeros.npy", zeros}}, ZIP_CM_DEFLATE);
  for (const std::string& file : {stored, deflated}) {
    for (std::size_t size = 0; size < file.size(); ++size) {
      // An allocation of exactly this size, so that a sanitizer sees reads behind it.
      const std::vector<char> cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
      CHECK(!refused_npz(std::string(cut.begin(), cut.end())).empty());
    }
    const Arrays originals = parse_npz(bytes_of(file), "x.npz");
    const auto is_original = [&originals](const auto& entry) {
      return std::any_of(originals.begin(), originals.end(),
                         [&entry](const auto& original) { return same(original.second, entry.second); });
    };
    int harmless = 0;
    for (std::size_t at = 0; at < file.size(); ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        std::string damaged = file;
        damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
        try {
          const Arrays arrays = parse_npz(bytes_of(damaged), "x.npz");
          // Dates, attributes and letters of names may change; the checksum covers every byte of an array.
          CHECK(std::all_of(arrays.begin(), arrays.end(), is_original));
          ++harmless;
        } catch (const BuildError&) {
        }
      }
    }
    CHECK(harmless < static_cast<int>(file.size()) * 8 / 2);
  }
  std::string damaged = stored;
  damaged[stored.find("größe.npy") + std::strlen("größe.npy") + 128 + 1] ^= 1;
  CHECK(!refused_npz(damaged).empty());
}

TEST_CASE("npy: damaged headers end in an error or an array that fits its bytes") {
  const std::string file = npy(header("<f4", "(2, 3)"), std::string(24, 'x'));
  for (std::size_t at = 0; at < file.size() - 24; ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string damaged = file;
      damaged[at] = static_cast<char>(value);
      try {
        const Array array = parse(damaged);
        CHECK(array.bytes.size() == edgert::ir::dense_bytes({array.dtype, array.dims}));
      } catch (const BuildError&) {
      }
    }
  }
}

TEST_CASE("npz: numpy reads what is written here, and the other way round") {
  const char* python = std::getenv("EDGERT_NUMPY_PYTHON");
  if (python == nullptr) {
    MESSAGE("skipped: EDGERT_NUMPY_PYTHON names no Python with numpy");
    return;
  }
  const Folder folder;
  const std::string script = std::string(__FILE__).substr(0, std::string(__FILE__).rfind('/')) + "/io_npz_numpy.py";
  edgert::io::write_npz(folder.file("ours.npz"), samples());
  REQUIRE(std::system((std::string(python) + " " + script + " check " + folder.file("ours.npz")).c_str()) == 0);
  for (const std::string mode : {"write", "write-compressed"}) {
    const std::string command = std::string(python) + " " + script + " " + mode + " " + folder.file("theirs.npz");
    REQUIRE(std::system(command.c_str()) == 0);
    const Arrays theirs = edgert::io::read_npz(folder.file("theirs.npz"));
    CHECK(theirs.size() == 6);
    for (const auto& entry : samples()) {
      const std::string& name = entry.first;
      const auto& array = entry.second;
      CAPTURE(name);
      REQUIRE(theirs.count(name) == 1);
      CHECK(same(theirs.at(name), array));
    }
  }
}
