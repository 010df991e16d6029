// AtomicFile where the name is a link, a FIFO or a device, or where a killed writer was before; and
// what a mapped file does that is cut short.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "runtime/core/atomic_file.h"
#include "runtime/core/bus_error.h"
#include "runtime/core/error.h"
#include "runtime/core/mapped_file.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

void WriteOutput(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.Write(text.data(), text.size());
  file.Commit();
}

mode_t PermissionsOf(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return status.st_mode & 0777U;
}

TEST(OutputFiles, ALinkStaysAndItsTargetIsReplaced) {
  const TempDir dir;
  fs::create_directory(dir.file("far"));
  WriteWholeFile(dir.file("far/target"), "old");
  fs::create_symlink("far/target", dir.file("link"));  // relative, to another directory
  fs::create_symlink(dir.file("link"), dir.file("twice"));
  const MappedFile old(dir.file("far/target"));
  WriteOutput(dir.file("twice"), "new");
  EXPECT_TRUE(fs::is_symlink(dir.file("twice")));
  EXPECT_TRUE(fs::is_symlink(dir.file("link")));
  EXPECT_FALSE(fs::is_symlink(dir.file("far/target")));
  EXPECT_EQ(ReadWholeFile(dir.file("far/target")), "new");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(old.data()), old.size()), "old");
  EXPECT_EQ(dir.n_entries(), 3U);
}

TEST(OutputFiles, ALinkToNothingMakesItsTarget) {
  const TempDir dir;
  fs::create_symlink("target", dir.file("link"));
  WriteOutput(dir.file("link"), "new");
  EXPECT_TRUE(fs::is_symlink(dir.file("link")));
  EXPECT_EQ(ReadWholeFile(dir.file("target")), "new");
  fs::create_symlink("ring", dir.file("ring"));
  EXPECT_THAT(MessageOf([&] { AtomicFile{dir.file("ring")}; }), HasSubstr("levels of symbolic"));
}

TEST(OutputFiles, AnExistingFileKeepsItsMode) {
  const TempDir dir;
  for (const mode_t mode : {0600U, 0644U, 0755U}) {
    WriteWholeFile(dir.file("a"), "old");
    ASSERT_EQ(::chmod(dir.file("a").c_str(), mode), 0);
    WriteOutput(dir.file("a"), "new");
    EXPECT_EQ(PermissionsOf(dir.file("a")), mode);
    EXPECT_EQ(ReadWholeFile(dir.file("a")), "new");
  }
  if (::geteuid() == 0) return;  // root may write to what nobody may write to
  ASSERT_EQ(::chmod(dir.file("a").c_str(), 0444), 0);
  EXPECT_THAT(MessageOf([&] { AtomicFile{dir.file("a")}; }), HasSubstr("Permission denied"));
}

TEST(OutputFiles, ADeviceIsWrittenThrough) {
  WriteOutput("/dev/null", "gone");
  struct stat status {};
  ASSERT_EQ(::stat("/dev/null", &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
  EXPECT_THAT(MessageOf([] { WriteOutput("/dev/full", "x"); }),
              HasSubstr("cannot write: No space"));
}

TEST(OutputFiles, AFifoGetsTheBytesAndStays) {
  const TempDir dir;
  ASSERT_EQ(::mkfifo(dir.file("fifo").c_str(), 0600), 0);
  const std::string text(100000, 'x');           // more than a pipe holds
  { const AtomicFile probe(dir.file("fifo")); }  // does not wait for a reader
  std::string read;
  std::thread reader([&] { read = ReadWholeFile(dir.file("fifo")); });
  WriteOutput(dir.file("fifo"), text);
  reader.join();
  EXPECT_TRUE(read == text);
  EXPECT_TRUE(fs::is_fifo(dir.file("fifo")));
  EXPECT_EQ(dir.n_entries(), 1U);
  EXPECT_FALSE(CanBeReadBack(dir.file("fifo")));
  EXPECT_TRUE(CanBeReadBack(dir.file("none")));
}

// /dev/stdout may be any kind of file, like this one: what stood there before stays.
TEST(OutputFiles, AnOpenFileIsWrittenWhereItStands) {
  const TempDir dir;
  const int fd = ::open(dir.file("a").c_str(), O_WRONLY | O_CREAT, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::write(fd, "before ", 7), 7);
  fs::create_symlink("/dev/fd/" + std::to_string(fd), dir.file("link"));
  WriteOutput(dir.file("link"), "through ");
  ASSERT_EQ(::write(fd, "after", 5), 5);
  ::close(fd);
  EXPECT_EQ(ReadWholeFile(dir.file("a")), "before through after");
  EXPECT_THAT(MessageOf([&] { AtomicFile{dir.file("link")}; }), HasSubstr("Bad file descriptor"));
}

TEST(OutputFiles, WhatKilledWritersLeftIsRemoved) {
  const TempDir dir;
  WriteWholeFile(dir.file("a.0123abcd.tmp"), "half a file");
  const std::vector<std::string> others = {"a.0123ABCD.tmp", "a.0123abcd.tmp.tmp",
                                           "a.123abcd.tmp",  "b.0123abcd.tmp",
                                           "a.0123abcdtmp",  "a-0123abcd.tmp"};
  for (const std::string& name : others) WriteWholeFile(dir.file(name), "another's");
  fs::create_directory(dir.file("a.00000000.tmp"));
  fs::create_symlink("b.0123abcd.tmp", dir.file("a.00000001.tmp"));
  WriteOutput(dir.file("a"), "whole");
  EXPECT_FALSE(fs::exists(dir.file("a.0123abcd.tmp")));
  for (const std::string& name : others) EXPECT_TRUE(fs::exists(dir.file(name))) << name;
  EXPECT_TRUE(fs::is_directory(dir.file("a.00000000.tmp")));
  EXPECT_TRUE(fs::is_symlink(dir.file("a.00000001.tmp")));
  EXPECT_EQ(ReadWholeFile(dir.file("a")), "whole");
}

TEST(OutputFiles, WhatALiveWriterWritesIsNotRemoved) {
  const TempDir dir;
  int ready[2];
  int go[2];
  ASSERT_EQ(::pipe(ready), 0);
  ASSERT_EQ(::pipe(go), 0);
  const pid_t writer = ::fork();
  if (writer == 0) {
    AtomicFile file(dir.file("a"));
    char byte = 0;
    const bool told = ::write(ready[1], &byte, 1) == 1 && ::read(go[0], &byte, 1) == 1;
    file.Write("theirs", 6);
    file.Commit();
    ::_exit(told ? 0 : 1);
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  WriteOutput(dir.file("a"), "ours");
  EXPECT_EQ(dir.n_entries(), 2U);
  ASSERT_EQ(::write(go[1], &byte, 1), 1);
  int status = -1;
  ASSERT_EQ(::waitpid(writer, &status, 0), writer);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(ReadWholeFile(dir.file("a")), "theirs");
  EXPECT_EQ(dir.n_entries(), 1U);
  for (const int fd : {ready[0], ready[1], go[0], go[1]}) ::close(fd);
}

TEST(BusErrorDeathTest, NamesTheFileThatWasCutShort) {
  const TempDir dir;
  WriteWholeFile(dir.file("a"), std::string(100000, 'x'));
  WriteWholeFile(dir.file("b"), "another");
  const auto read_past_the_end = [&] {
    InstallBusErrorHandler();
    const MappedFile first(dir.file("b"));
    const MappedFile file(dir.file("a"));
    fs::resize_file(dir.file("a"), 10);
    const volatile std::byte* last = file.data() + file.size() - 1;
    (void)*last;
  };
  EXPECT_EXIT(read_past_the_end(), testing::ExitedWithCode(1),
              "thermocline: .*/a: the file was cut short while it was read");
}

}  // namespace
}  // namespace thermocline
