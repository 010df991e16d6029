// Broken files: each gives one clear Error and nothing else, also under ASan and UBSan.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "tests/gguf/bad_files.h"
#include "tests/gguf/gguf_bytes.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string MessageOfBytes(const std::string& bytes) {
  return MessageOf([&] { GgufReader(AsBytes(bytes), "bytes.gguf"); });
}

bool IsOnePrintableLine(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= 0x20; });
}

TEST(GgufBadFile, EachGivesItsMessage) {
  const std::vector<BadFile> files = BadGgufFiles();
  EXPECT_GT(files.size(), 200U);
  std::set<std::string> names;
  for (const BadFile& file : files) {
    SCOPED_TRACE(file.name);
    EXPECT_TRUE(names.insert(file.name).second) << "two of this name";
    const std::string message = MessageOfBytes(file.bytes);
    EXPECT_THAT(message, HasSubstr(file.message_part));
    EXPECT_THAT(message, StartsWith("bytes.gguf: "));
    EXPECT_TRUE(IsOnePrintableLine(message)) << message;
    EXPECT_LT(message.size(), 600U);
  }
}

TEST(GgufBadFile, EachGivesItsMessageFromDisk) {
  const TempDir dir;
  for (const BadFile& file : BadGgufFiles()) {
    SCOPED_TRACE(file.name);
    const std::string path = dir.file(file.name + ".gguf");
    WriteWholeFile(path, file.bytes);
    const std::string message = MessageOf([&] { GgufReader{path}; });
    EXPECT_THAT(message, HasSubstr(file.bytes.empty() ? "the file is empty" : file.message_part));
    EXPECT_THAT(message, StartsWith(path + ": "));
  }
}

TEST(GgufBadFile, TruncatedAnywhere) {
  const std::string whole = SmallValidGguf();
  ASSERT_EQ(MessageOfBytes(whole), "");
  for (size_t n_bytes = 0; n_bytes < whole.size(); ++n_bytes) {
    // A copy of just these bytes, so that ASan sees a read past their end.
    const std::vector<char> part(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(n_bytes));
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(part.data()),
                                           part.size());
    const std::string message = MessageOf([&] { GgufReader(bytes, "cut.gguf"); });
    EXPECT_THAT(message, StartsWith("cut.gguf: ")) << n_bytes << " bytes";
    EXPECT_THAT(message, HasSubstr("truncated")) << n_bytes << " bytes";
  }
}

// Changes any one byte, which gives an Error or a file whose tensors can be read to their last
// byte.
void ChangeEachByte(std::string bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char before = bytes[i];
    for (const int change : {0x01, 0x02, 0x08, 0x20, 0x80, 0xff}) {
      bytes[i] = static_cast<char>(before ^ change);
      const std::string message = MessageOf([&] {
        const GgufReader reader(AsBytes(bytes), "changed.gguf");
        (void)reader.fingerprint();
        for (const GgufTensorInfo& tensor : reader.tensors()) {
          const std::byte* last = reader.TensorData(tensor) + tensor.n_bytes - 1;
          EXPECT_LE(last, AsBytes(bytes).data() + bytes.size() - 1);
        }
      });
      EXPECT_TRUE(IsOnePrintableLine(message)) << message;
    }
    bytes[i] = before;
  }
}

TEST(GgufBadFile, OneByteChanged) {
  ChangeEachByte(SmallValidGguf());
  ChangeEachByte(AsPowerInfer(SmallValidGguf()));
}

TEST(GgufBadFile, NotAFile) {
  const TempDir dir;
  EXPECT_THAT(MessageOf([&] { GgufReader{dir.file("none.gguf")}; }), HasSubstr("cannot open"));
  EXPECT_THAT(MessageOf([&] { GgufReader{dir.path()}; }), HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace thermocline
