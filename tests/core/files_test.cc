// AtomicFile and MappedFile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stdexcept>

#include "runtime/core/atomic_file.h"
#include "runtime/core/error.h"
#include "runtime/core/mapped_file.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

void WriteText(AtomicFile& file, const std::string& text) { file.Write(text.data(), text.size()); }

mode_t ModeOf(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return status.st_mode & 0777U;
}

TEST(AtomicFile, AppearsAtCommit) {
  const TempDir dir;
  AtomicFile file(dir.file("a"));
  WriteText(file, "hello ");
  WriteText(file, "world");
  EXPECT_FALSE(std::filesystem::exists(dir.file("a")));
  EXPECT_EQ(file.bytes_written(), 11U);
  file.Commit();
  EXPECT_EQ(ReadWholeFile(dir.file("a")), "hello world");
  EXPECT_EQ(dir.n_entries(), 1U);
}

TEST(AtomicFile, EmptyFile) {
  const TempDir dir;
  AtomicFile file(dir.file("a"));
  file.Commit();
  EXPECT_EQ(std::filesystem::file_size(dir.file("a")), 0U);
}

TEST(AtomicFile, PiecesOfAnySize) {
  const TempDir dir;
  std::string whole;
  AtomicFile file(dir.file("a"));
  for (const size_t n_bytes : {1U, 1048575U, 1048576U, 0U, 3000001U, 7U}) {
    const std::string piece(n_bytes, static_cast<char>('a' + n_bytes % 26));
    WriteText(file, piece);
    whole += piece;
  }
  file.Commit();
  EXPECT_EQ(file.bytes_written(), whole.size());
  EXPECT_TRUE(ReadWholeFile(dir.file("a")) == whole);
}

TEST(AtomicFile, AnExceptionLeavesNothing) {
  const TempDir dir;
  WriteWholeFile(dir.file("old"), "old");
  for (const char* name : {"new", "old"}) {
    try {
      AtomicFile file(dir.file(name));
      WriteText(file, std::string(3 << 20, 'x'));
      throw std::runtime_error("stopped");
    } catch (const std::runtime_error&) {
    }
  }
  EXPECT_EQ(dir.n_entries(), 1U);
  EXPECT_EQ(ReadWholeFile(dir.file("old")), "old");
}

// Who has the old file open keeps it whole, and who opens it later gets the new one.
TEST(AtomicFile, ReplacesInOneStep) {
  const TempDir dir;
  WriteWholeFile(dir.file("a"), "old content");
  const MappedFile old(dir.file("a"));
  AtomicFile file(dir.file("a"));
  WriteText(file, "new");
  EXPECT_EQ(ReadWholeFile(dir.file("a")), "old content");
  file.Commit();
  EXPECT_EQ(ReadWholeFile(dir.file("a")), "new");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(old.data()), old.size()), "old content");
  EXPECT_EQ(dir.n_entries(), 1U);
}

TEST(AtomicFile, TwoWritersOfOneName) {
  const TempDir dir;
  AtomicFile first(dir.file("a"));
  AtomicFile second(dir.file("a"));
  WriteText(first, "first");
  WriteText(second, "second");
  second.Commit();
  first.Commit();
  EXPECT_EQ(ReadWholeFile(dir.file("a")), "first");
  EXPECT_EQ(dir.n_entries(), 1U);
}

TEST(AtomicFile, PermissionsFollowTheUmask) {
  const TempDir dir;
  for (const mode_t mask : {0022U, 0077U, 0002U}) {
    const mode_t before = ::umask(mask);
    const std::string path = dir.file(std::to_string(mask));
    AtomicFile file(path);
    file.Commit();
    ::umask(before);
    EXPECT_EQ(ModeOf(path), 0666U & ~mask);
  }
}

TEST(AtomicFile, WhereNothingCanBeWritten) {
  const TempDir dir;
  WriteWholeFile(dir.file("file"), "x");
  const std::string missing = dir.file("no/such/dir/a");
  EXPECT_THAT(MessageOf([&] { AtomicFile{missing}; }),
              StartsWith(missing + ": cannot write here: No such file or directory"));
  EXPECT_THAT(MessageOf([&] { AtomicFile{dir.file("file/a")}; }), HasSubstr("Not a directory"));
  EXPECT_THAT(MessageOf([&] { AtomicFile{dir.path()}; }), HasSubstr("Is a directory"));
  EXPECT_THAT(MessageOf([] { AtomicFile{""}; }), HasSubstr("cannot write here"));
  ASSERT_EQ(::mkdir(dir.file("closed").c_str(), 0555), 0);
  if (::geteuid() != 0) {  // root may write anywhere
    EXPECT_THAT(MessageOf([&] { AtomicFile{dir.file("closed/a")}; }),
                HasSubstr("Permission denied"));
  }
}

TEST(AtomicFile, RelativeName) {
  const TempDir dir;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(dir.path());
  AtomicFile file("a");
  WriteText(file, "x");
  file.Commit();
  std::filesystem::current_path(before);
  EXPECT_EQ(ReadWholeFile(dir.file("a")), "x");
}

// A limit on the size of files plays a full disk.
TEST(AtomicFile, FullDisk) {
  const TempDir dir;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{2 << 20, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = MessageOf([&] {
    AtomicFile file(dir.file("a"));
    WriteText(file, std::string(5 << 20, 'x'));
    file.Commit();
  });
  ::setrlimit(RLIMIT_FSIZE, &before);
  (void)::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, HasSubstr("cannot write: File too large"));
  EXPECT_EQ(dir.n_entries(), 0U);
}

TEST(AtomicFileDeathTest, NothingAfterCommit) {
  const TempDir dir;
  AtomicFile file(dir.file("a"));
  file.Commit();
  EXPECT_DEATH(WriteText(file, "x"), "CHECK");
  EXPECT_DEATH(file.Commit(), "CHECK");
}

TEST(MappedFile, HoldsTheBytes) {
  const TempDir dir;
  WriteWholeFile(dir.file("a"), "some bytes");
  MappedFile file(dir.file("a"));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.data()), file.size()), "some bytes");
  EXPECT_EQ(file.path(), dir.file("a"));
  const std::byte* data = file.data();
  const MappedFile moved = std::move(file);
  EXPECT_EQ(moved.data(), data);
  EXPECT_EQ(moved.size(), 10U);
}

TEST(MappedFile, WhatCannotBeMapped) {
  const TempDir dir;
  const std::string none = dir.file("none");
  EXPECT_EQ(MessageOf([&] { MappedFile{none}; }),
            none + ": cannot open: No such file or directory; check the path and its permissions");
  EXPECT_THAT(MessageOf([&] { MappedFile{dir.path()}; }), HasSubstr("not a regular file"));
  WriteWholeFile(dir.file("empty"), "");
  EXPECT_THAT(MessageOf([&] { MappedFile{dir.file("empty")}; }), HasSubstr("the file is empty"));
  EXPECT_THAT(MessageOf([] { MappedFile{"/dev/null"}; }), HasSubstr("not a regular file"));
  ASSERT_EQ(::mkfifo(dir.file("fifo").c_str(), 0600), 0);
  EXPECT_THAT(MessageOf([&] { MappedFile{dir.file("fifo")}; }), HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace thermocline
