// SPDX-License-Identifier: Apache-2.0
// Files appear whole or not at all, and every failure names path and reason.
#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdint>
#include <thread>
#include <vector>

#include "io/file.h"
#include "io_folder.h"

using edgert::io::AtomicFile;
using edgert::io::IoError;
using edgert::io::MappedFile;
using edgert::io::write_file;
using io_test::bytes_of;
using io_test::contains;
using io_test::content_of;
using io_test::Folder;
using io_test::message_of;

namespace {

/// Lets files grow to `bytes` only, for as long as it lives: a full disk that needs no disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("file: what is written is mapped back") {
  const Folder folder;
  for (const std::size_t size : {0u, 1u, 4095u, 4096u, 1'000'003u}) {
    std::string content(size, 'x');
    for (std::size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 31 + i / 256);
    write_file(folder.file("a"), bytes_of(content));
    const MappedFile file(folder.file("a"));
    REQUIRE(file.bytes().size() == size);
    CHECK(std::string(reinterpret_cast<const char*>(file.bytes().data()), size) == content);
    CHECK(reinterpret_cast<std::uintptr_t>(file.bytes().data()) % 64 == 0);
  }
  CHECK(folder.count() == 1);
}

TEST_CASE("file: a mapping moves") {
  const Folder folder;
  io_test::put(folder.file("a"), "abc");
  MappedFile first(folder.file("a"));
  const MappedFile second(std::move(first));
  CHECK(second.bytes().size() == 3);
  CHECK(first.bytes().size() == 0);  // NOLINT: that is the point
}

TEST_CASE("file: what cannot be read is named") {
  const Folder folder;
  const std::string missing = message_of<IoError>([&] { MappedFile(folder.file("none")); });
  CHECK(contains(missing, folder.file("none")));
  CHECK(contains(missing, "No such file or directory"));
  CHECK(contains(message_of<IoError>([&] { MappedFile(folder.file("")); }), "not a regular file"));
  REQUIRE(mkfifo(folder.file("pipe").c_str(), 0600) == 0);
  CHECK(contains(message_of<IoError>([&] { MappedFile(folder.file("pipe")); }), "not a regular file"));
}

TEST_CASE("file: pieces appear at commit, nothing without it") {
  const Folder folder;
  io_test::put(folder.file("a"), "old");
  {
    AtomicFile file(folder.file("a"));
    file.write(bytes_of("half"));
    CHECK(content_of(folder.file("a")) == "old");
  }
  CHECK(content_of(folder.file("a")) == "old");
  CHECK(folder.count() == 1);
  {
    AtomicFile file(folder.file("a"));
    file.write(bytes_of("ne"));
    file.write(bytes_of("w"));
    file.commit();
  }
  CHECK(content_of(folder.file("a")) == "new");
  CHECK(folder.count() == 1);
}

TEST_CASE("file: a full disk leaves the old file and no temporary one") {
  const Folder folder;
  write_file(folder.file("a"), bytes_of("old"));
  const std::string big(1 << 20, 'x');
  std::string message;
  {
    const FileSizeLimit limit(100'000);
    message = message_of<IoError>([&] { write_file(folder.file("a"), bytes_of(big)); });
  }
  CHECK(contains(message, folder.file("a")));
  CHECK(contains(message, "File too large"));
  CHECK(content_of(folder.file("a")) == "old");
  CHECK(folder.count() == 1);
  CHECK(contains(message_of<IoError>([&] { write_file("/dev/full", bytes_of(big)); }), "No space left on device"));
}

TEST_CASE("file: folders and missing folders are refused by name") {
  const Folder folder;
  CHECK(contains(message_of<IoError>([&] { write_file(folder.file(""), bytes_of("x")); }), "folder"));
  const std::string missing = message_of<IoError>([&] { write_file(folder.file("no/such"), bytes_of("x")); });
  CHECK(contains(missing, folder.file("no/such")));
  CHECK(contains(missing, "No such file or directory"));
  CHECK(folder.count() == 0);
}

TEST_CASE("file: devices are written to, not replaced") {
  write_file("/dev/null", bytes_of("x"));
  struct stat info {};
  REQUIRE(stat("/dev/null", &info) == 0);
  CHECK(S_ISCHR(info.st_mode));
}

TEST_CASE("file: a symbolic link keeps pointing, its target changes") {
  const Folder folder;
  io_test::put(folder.file("target"), "old");
  std::filesystem::create_symlink(folder.file("target"), folder.file("link"));
  write_file(folder.file("link"), bytes_of("new"));
  CHECK(std::filesystem::is_symlink(folder.file("link")));
  CHECK(content_of(folder.file("target")) == "new");
}

TEST_CASE("file: the umask says who may read") {
  const Folder folder;
  const mode_t before = umask(027);
  write_file(folder.file("a"), bytes_of("x"));
  umask(before);
  struct stat info {};
  REQUIRE(stat(folder.file("a").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
}

TEST_CASE("file: writers at the same time leave one whole file") {
  const Folder folder;
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i) {
    writers.emplace_back([&folder, i] {
      const std::string content(100'000, static_cast<char>('a' + i));
      for (int round = 0; round < 10; ++round) write_file(folder.file("a"), bytes_of(content));
    });
  }
  for (std::thread& writer : writers) writer.join();
  const std::string content = content_of(folder.file("a"));
  CHECK(content == std::string(100'000, content.at(0)));
  CHECK(folder.count() == 1);
}
