// The verb `inspect` on every kind of file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "runtime/convert/pack_model.h"
#include "runtime/gguf/gguf_writer.h"
#include "tests/tools/models.h"
#include "tests/tools/tool_process.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

nlohmann::json Inspect(const std::string& path) {
  const ToolResult result = RunTool({"inspect", path, "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return nlohmann::json::parse(result.out);
}

TEST(InspectTest, Model) {
  const auto json = Inspect(GoldenModel("gqa_relu"));
  EXPECT_EQ(json["kind"], "model");
  EXPECT_EQ(json["model"]["d_ff"], 96);
  EXPECT_EQ(json["model"]["runs"], true);
  EXPECT_EQ(json["model"]["default_mode"], "exact");
  EXPECT_EQ(json["vocabulary"]["size"], 288);
  EXPECT_EQ(json["fingerprint"], GgufReader(GoldenModel("gqa_relu")).fingerprint());
  EXPECT_EQ(json["metadata"]["tokenizer.ggml.tokens"]["count"], 288);
  EXPECT_EQ(json["metadata"]["tokenizer.ggml.tokens"]["first"].size(), 8U);
  EXPECT_EQ(json["metadata"]["llama.attention.layer_norm_rms_epsilon"], 1e-5);
  uint64_t n_bytes = 0;
  for (const auto& tensor : json["tensors"]) n_bytes += tensor["bytes"].get<uint64_t>();
  EXPECT_EQ(json["types"][0]["bytes"], n_bytes) << "all F32";

  const ToolResult text = RunTool({"inspect", GoldenModel("gqa_relu")});
  for (const char* part :
       {"this version runs it", "n_kv_heads      2", "token_embd.weight", "F32"}) {
    EXPECT_THAT(text.out, HasSubstr(part));
  }
}

TEST(InspectTest, PlacementAndPackedModel) {
  TempDir dir;
  WriteShuffledPlacement(GoldenModel("gqa_relu"), dir.file("placement"));
  const auto placement = Inspect(dir.file("placement"));
  EXPECT_EQ(placement["kind"], "placement");
  EXPECT_EQ(placement["placement"]["layer_neurons"][1],
            nlohmann::json({{"vram", 38}, {"dram", 58}, {"nvme", 0}, {"attention", "vram"}}));
  EXPECT_THAT(RunTool({"inspect", dir.file("placement")}).out, HasSubstr("neurons in vram"));

  PackOptions options;
  options.placement_path = dir.file("placement");
  PackModel(GoldenModel("gqa_relu"), dir.file("packed"), options);
  const auto packed = Inspect(dir.file("packed"));
  EXPECT_EQ(packed["kind"], "packed model");
  EXPECT_EQ(packed["alignment"], 64);
  EXPECT_EQ(packed["model"]["runs"], true);
}

TEST(InspectTest, PowerInfersFiles) {
  const std::string folder = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/powerinfer/";
  const std::string model = folder + "reglu_q4_0.powerinfer.gguf";
  const auto json = Inspect(model);
  EXPECT_EQ(json["kind"], "model");
  EXPECT_EQ(json["container"], "PWRI");
  EXPECT_EQ(json["model"]["runs"], true);
  EXPECT_EQ(json["model"]["activation"], "relu");
  EXPECT_EQ(json["model"]["predictor_max_rank"], 128);
  EXPECT_EQ(json["model"]["predictor_threshold"], -0.5);
  EXPECT_THAT(RunTool({"inspect", model}).out, HasSubstr("PowerInfer's container (PWRI)"));
  EXPECT_EQ(Inspect(GoldenModel("gqa_relu"))["container"], "GGUF");

  const std::string placement = folder + "reglu.generated.gpuidx";
  const auto placed = Inspect(placement);
  EXPECT_EQ(placed["kind"], "placement");
  EXPECT_EQ(placed["placement"]["imported"], true);
  EXPECT_EQ(placed["placement"]["model_fingerprint"], nullptr);
  EXPECT_EQ(placed["placement"]["layer_neurons"][1],
            nlohmann::json({{"vram", 17}, {"dram", 79}, {"nvme", 0}, {"attention", "vram"}}));
  EXPECT_THAT(RunTool({"inspect", placement}).out, HasSubstr("it names no model"));

  const ToolResult run = RunTool(
      {"run", "-m", model, "--placement", placement, "-p", "the", "-n", "3", "--temp", "0"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("the placement is PowerInfer's and names no model"));
}

TEST(InspectTest, ListsWhatItCannotRunAndSaysWhy) {
  TempDir dir;
  {
    GgufWriter writer(dir.file("other"));
    writer.Set("general.architecture", GgufValue::string("mamba\x1b[31m"));
    writer.Set("broken \xff text", GgufValue::string("\xff\x01"));
    writer.DeclareTensor("counts", DType::kI64, {3});
    const int64_t counts[3] = {1, 2, 3};
    writer.WriteTensor("counts", counts, sizeof(counts));
    writer.Finish();
  }
  const auto json = Inspect(dir.file("other"));
  EXPECT_EQ(json["model"]["runs"], false);
  EXPECT_THAT(json["model"]["reason"].get<std::string>(), HasSubstr("model family not supported"));
  EXPECT_EQ(json["tensors"][0]["type"], "I64");
  const ToolResult text = RunTool({"inspect", dir.file("other")});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.out, HasSubstr("this version cannot run it"));
  EXPECT_EQ(text.out.find('\x1b'), std::string::npos) << "control characters reach the terminal";
}

// Writes the model's first tensor in one file, the others in a second.
void WriteSplitSet(const std::string& model, const TempDir& dir) {
  const GgufReader source(model);
  for (int part = 0; part < 2; ++part) {
    GgufWriter writer(dir.file(part == 0 ? "m-00001-of-00002.gguf" : "m-00002-of-00002.gguf"));
    if (part == 0) CopyMetadata(source, std::nullopt, writer);
    writer.Set("split.no", GgufValue::u32(static_cast<uint32_t>(part)));
    writer.Set("split.count", GgufValue::u32(2));
    writer.Set("split.tensors.count", GgufValue::u64(source.tensors().size()));
    const auto first = source.tensors().begin();
    const std::vector<GgufTensorInfo> own(part == 0 ? first : first + 1,
                                          part == 0 ? first + 1 : source.tensors().end());
    for (const auto& tensor : own) writer.DeclareTensor(tensor.name, tensor.dtype, tensor.dims);
    for (const auto& tensor : own) {
      writer.WriteTensor(tensor.name, source.TensorData(tensor), tensor.n_bytes);
    }
    writer.Finish();
  }
}

TEST(InspectTest, SplitSetByAnyMember) {
  TempDir dir;
  WriteSplitSet(GoldenModel("gqa_relu"), dir);
  const auto json = Inspect(dir.file("m-00002-of-00002.gguf"));
  EXPECT_EQ(json["files"],
            nlohmann::json({dir.file("m-00001-of-00002.gguf"), dir.file("m-00002-of-00002.gguf")}));
  EXPECT_EQ(json["tensors"][0]["file"], 0);
  EXPECT_EQ(json["tensors"][1]["file"], 1);
  EXPECT_EQ(json["model"]["runs"], true);

  // quantize makes one file of it, without the keys of the set.
  const ToolResult result =
      RunTool({"quantize", dir.file("m-00001-of-00002.gguf"), dir.file("one.gguf"), "F32"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto one = Inspect(dir.file("one.gguf"));
  EXPECT_EQ(one["files"].size(), 1U);
  EXPECT_EQ(one["metadata"].count("split.count"), 0U);
  EXPECT_EQ(one["tensors"].size(), json["tensors"].size());
}

TEST(InspectTest, VocabularyAlone) {
  const TempDir dir;
  const GgufReader model(GoldenModel("gqa_relu"));
  GgufWriter writer(dir.file("vocabulary.gguf"));
  for (const std::string& key : model.keys()) writer.Set(key, *model.Find(key));
  writer.Finish();
  const auto json = Inspect(dir.file("vocabulary.gguf"));
  EXPECT_EQ(json["kind"], "vocabulary");
  EXPECT_EQ(json["vocabulary"]["size"], 288);
  EXPECT_THAT(RunTool({"inspect", dir.file("vocabulary.gguf")}).out, HasSubstr("no tensors"));
}

TEST(InspectTest, DemoModelIsCommittedAndRuns) {
  ASSERT_TRUE(std::filesystem::exists(DemoModel())) << DemoModel();
  const auto json = Inspect(DemoModel());
  EXPECT_EQ(json["model"]["runs"], true);
  EXPECT_EQ(json["model"]["default_mode"], "exact");
}

}  // namespace
}  // namespace thermocline
