// Safetensors: what is read of good files, and that bad ones are refused in one line.
#include "runtime/safetensors/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/safetensors/bounded_json.h"
#include "tests/safetensors/safetensors_bytes.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

std::string ParseMessage(const std::string& bytes) {
  return MessageOf([&] { ParseSafetensors(BytesOfText(bytes), "m.safetensors"); });
}

SafetensorsBytes TwoTensors() {
  SafetensorsBytes file;
  file.AddF32("a.weight", {2, 3}, {0, 1, 2, 3, 4, 5}).Add("b", "BF16", {2}, "wxyz");
  return file;
}

TEST(Safetensors, ReadsTensors) {
  SafetensorsBytes file = TwoTensors();
  file.header()["__metadata__"] = {{"format", "pt"}};
  const std::string bytes = file.bytes();
  const auto tensors = ParseSafetensors(BytesOfText(bytes), "m.safetensors");
  ASSERT_EQ(tensors.size(), 2U);
  EXPECT_EQ(tensors[0].name, "a.weight");
  EXPECT_EQ(tensors[0].shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(tensors[0].n_bytes, 24U);
  EXPECT_EQ(tensors[1].info().name, "BF16");
  EXPECT_EQ(bytes.substr(tensors[1].begin, tensors[1].n_bytes), "wxyz");
}

struct BadEntry {
  const char* name;
  const char* key;
  nlohmann::json value;
  const char* message;
};

class SafetensorsBadEntry : public testing::TestWithParam<BadEntry> {};

TEST_P(SafetensorsBadEntry, IsRefused) {
  SafetensorsBytes file = TwoTensors();
  file.header()["b"][GetParam().key] = GetParam().value;
  EXPECT_THAT(ParseMessage(file.bytes()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Entries, SafetensorsBadEntry,
    testing::Values(
        BadEntry{"type", "dtype", "F4", "tensor b: dtype: expected F64, F32"},
        BadEntry{"type_kind", "dtype", 7, "dtype"},
        BadEntry{"shape_kind", "shape", "2", "shape: expected an array"},
        BadEntry{"negative", "shape", {-2}, "shape: expected an array"},
        BadEntry{"zero", "shape", {0, 2}, "dimensions of at least 1"},
        BadEntry{"many_dims", "shape", {1, 1, 1, 1, 1, 1, 1, 1, 2}, "shape: expected an array"},
        BadEntry{"overflow", "shape", {1ULL << 40, 1ULL << 40}, "fewer than 2^63 bytes"},
        BadEntry{"size", "shape", {3}, "6 bytes, for [3] of BF16"},
        BadEntry{"outside", "data_offsets", {24, 29}, "within 28 bytes"},
        BadEntry{"backwards", "data_offsets", {28, 24}, "within 28 bytes"},
        BadEntry{"offsets_kind", "data_offsets", {24}, "data_offsets"},
        BadEntry{"huge", "data_offsets", {0, ~0ULL}, "within 28 bytes"},
        BadEntry{"overlap", "data_offsets", {20, 24}, "tensors a.weight and b share bytes"}),
    [](const auto& test) { return test.param.name; });

TEST(Safetensors, RefusesHeadersThatAreNone) {
  EXPECT_THAT(ParseMessage(""), HasSubstr("not a safetensors file"));
  EXPECT_THAT(ParseMessage("short"), HasSubstr("not a safetensors file"));
  EXPECT_THAT(ParseMessage("version https://git-lfs"), HasSubstr("Git LFS"));
  EXPECT_THAT(ParseMessage(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)),
              HasSubstr("found a length of 18446744073709551615"));
  const SafetensorsBytes file = TwoTensors();
  EXPECT_THAT(ParseMessage(file.WithHeader("[1, 2]")), HasSubstr("not a safetensors file"));
  EXPECT_THAT(ParseMessage(file.WithHeader("{\"a\": ")), HasSubstr("not JSON"));
  EXPECT_THAT(ParseMessage(file.WithHeader("{\"a\": 1}")), HasSubstr("an object"));
  EXPECT_THAT(ParseMessage(file.WithHeader("{\"a\": {\"b\": {\"c\": {\"d\": {}}}}}")),
              HasSubstr("nested too deep"));
  EXPECT_THAT(ParseMessage(file.WithHeader("{\"a\": {}, \"a\": {}}")), HasSubstr("twice"));
  // A name's control characters do not reach the terminal.
  EXPECT_THAT(ParseMessage(file.WithHeader("{\"\\u001b[2J\": {}}")), Not(HasSubstr("\x1b")));
}

TEST(Safetensors, EveryShorterFileIsRefused) {
  const std::string whole = TwoTensors().bytes();
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(ParseMessage(whole.substr(0, size)), "") << size << " bytes";
  }
}

class SafetensorsModelTest : public testing::Test {
 protected:
  std::string OpenMessage() {
    return MessageOf([&] { SafetensorsModel model(dir_.path()); });
  }
  void WriteShards() {
    SafetensorsBytes one, two;
    one.AddF32("a", {1}, {1});
    two.AddF32("b", {2}, {2, 3});
    WriteWholeFile(dir_.file("m-1.safetensors"), one.bytes());
    WriteWholeFile(dir_.file("m-2.safetensors"), two.bytes());
  }
  void WriteIndex(const nlohmann::json& map) {
    const nlohmann::json index = {{"metadata", {{"total_size", 12}}}, {"weight_map", map}};
    WriteWholeFile(dir_.file("model.safetensors.index.json"), index.dump());
  }

  TempDir dir_;
};

TEST_F(SafetensorsModelTest, OpensOneFileOrShards) {
  EXPECT_THAT(OpenMessage(), HasSubstr("no model here"));
  WriteWholeFile(dir_.file("pytorch_model.bin"), "x");
  EXPECT_THAT(OpenMessage(), HasSubstr("pytorch_model.bin"));
  WriteWholeFile(dir_.file("model.safetensors"), TwoTensors().bytes());
  EXPECT_EQ(SafetensorsModel(dir_.path()).tensors().size(), 2U);
  WriteShards();
  WriteIndex({{"a", "m-1.safetensors"}, {"b", "m-2.safetensors"}});
  const SafetensorsModel model(dir_.path());
  ASSERT_NE(model.Find("b"), nullptr);
  EXPECT_EQ(model.Find("c"), nullptr);
  float values[2];
  std::memcpy(values, model.DataOf(*model.Find("b")), sizeof(values));
  EXPECT_EQ(values[1], 3);
  EXPECT_THAT(model.PathOf(*model.Find("b")), HasSubstr("m-2"));
}

TEST_F(SafetensorsModelTest, RefusesWhatTheIndexDoesNotSay) {
  WriteShards();
  WriteIndex({{"a", "m-1.safetensors"}, {"b", "m-3.safetensors"}});
  EXPECT_THAT(OpenMessage(), HasSubstr("m-3.safetensors: a file of the model is missing"));
  WriteIndex({{"a", "m-1.safetensors"}, {"c", "m-2.safetensors"}});
  EXPECT_THAT(OpenMessage(), HasSubstr("tensor c is missing"));
  WriteIndex({{"a", "m-2.safetensors"}, {"b", "m-1.safetensors"}});
  EXPECT_THAT(OpenMessage(), HasSubstr("tensor a is missing"));
  for (const char* name : {"../m-1.safetensors", "/etc/passwd", "", ".."}) {
    WriteIndex({{"a", name}});
    EXPECT_THAT(OpenMessage(), HasSubstr("a file in the same directory")) << name;
  }
  WriteIndex(nlohmann::json::object());
  EXPECT_THAT(OpenMessage(), HasSubstr("weight_map"));
  WriteIndex({{"a", "m-1.safetensors"}, {"b", "m-2.safetensors"}});
  const std::string whole = ReadWholeFile(dir_.file("m-2.safetensors"));
  WriteWholeFile(dir_.file("m-2.safetensors"), whole.substr(0, whole.size() - 1));
  EXPECT_THAT(OpenMessage(), HasSubstr("m-2.safetensors: tensor b: data_offsets"));
  WriteWholeFile(dir_.file("m-2.safetensors"), ReadWholeFile(dir_.file("m-1.safetensors")));
  EXPECT_THAT(OpenMessage(), HasSubstr("tensor a is in two files"));
}

TEST(BoundedJson, HoldsItsBounds) {
  const JsonBounds bounds{.max_bytes = 200, .max_depth = 3, .max_values = 6};
  const auto message = [&](const std::string& text) {
    return MessageOf([&] { ParseBoundedJson(text, "f.json", bounds); });
  };
  EXPECT_EQ(message(R"({"a": [[1]], "b": 2})"),
            "f.json: JSON of too many values: expected at most "
            "6, found more; the file is damaged: download or "
            "make it again");
  EXPECT_EQ(message(R"({"a": [[1]]})"), "");
  EXPECT_THAT(message("[[[[1]]]]"), HasSubstr("nested too deep"));
  EXPECT_THAT(message(std::string(201, ' ')), HasSubstr("too large"));
  EXPECT_THAT(message(R"({"a": 1, "a": 2})"), HasSubstr("twice"));
  EXPECT_EQ(MessageOf([&] { ParseBoundedJson(R"([{"a": 1}, {"a": 2}])", "f.json", {}); }), "");
  EXPECT_THAT(message("\"\xff\""), HasSubstr("not JSON"));
  EXPECT_THAT(message("1e999"), HasSubstr("not JSON"));
  EXPECT_THAT(message("1 2"), HasSubstr("byte 3"));
  // Depth costs no stack.
  const std::string deep(1'000'000, '[');
  EXPECT_THAT(MessageOf([&] { ParseBoundedJson(deep, "f.json", {}); }), HasSubstr("too deep"));
}

}  // namespace
}  // namespace thermocline
