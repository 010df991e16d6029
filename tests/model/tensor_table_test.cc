// One row of a family's table is all that a tensor takes: checking, loading, the memory plan,
// packing and inspect find it there. The model has every tensor that an unpacked file can have.
#include "runtime/model/tensor_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "runtime/convert/pack_model.h"
#include "runtime/engine/engine.h"
#include "tests/placement/placements.h"
#include "tests/powerinfer/powerinfer_files.h"
#include "tests/support/message_of.h"
#include "tools/reports/inspect_file.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

class TensorTableTest : public testing::Test {
 protected:
  TensorTableTest() {
    const std::string golden = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/gqa_relu.gguf";
    WriteEdited(
        golden, path_,
        [&](EditedFile& file) {
          const GgufReader gguf(golden);
          const Family& family = FindFamily(gguf);
          ForEachNamed(family.tensors, ReadModelConfig(gguf, family),
                       [&](const ModelTensor& tensor) { AddMissing(tensor, &file); });
        },
        "GGUF");
  }

  // Adds rising values: a row that moves shows, and divisors of frequencies are positive.
  static void AddMissing(const ModelTensor& tensor, EditedFile* file) {
    const bool stored = file->tensors.contains(tensor.name);
    if (stored || !tensor.row->in_form(FfnForm::kStock)) return;
    // LongRoPE's lists do not go together with llama-3's.
    const TensorRole role = tensor.row->role;
    if (role == TensorRole::kRopeShort || role == TensorRole::kRopeLong) return;
    if (tensor.rows == kAnyDim || tensor.cols == kAnyDim) return;  // PowerInfer's predictor
    std::vector<float> values(static_cast<size_t>(tensor.rows * tensor.cols));
    for (size_t i = 0; i < values.size(); ++i) values[i] = 1 + 0.001F * static_cast<float>(i);
    const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
    ASSERT_EQ(tensor.rows, 1) << "matrices are in the golden model";
    file->tensors[tensor.name] = {DType::kF32,
                                  {static_cast<uint64_t>(tensor.cols)},
                                  {bytes, bytes + values.size() * sizeof(float)}};
  }

  EngineOptions Options() const {
    EngineOptions options;
    options.model_path = path_;
    options.fast_tier = FastTier::kCpu;
    options.n_threads = 2;
    return options;
  }

  // Returns the tensors that the file has by its table.
  std::vector<ModelTensor> Tensors(const std::string& path) const {
    const GgufReader gguf(path);
    const Family& family = FindFamily(gguf);
    std::vector<ModelTensor> tensors;
    ForEachTensor(gguf, family.tensors, ReadModelConfig(gguf, family),
                  [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
                    EXPECT_NE(info, nullptr) << tensor.name;
                    tensors.push_back(tensor);
                  });
    return tensors;
  }

  std::string MessageWith(const std::function<void(EditedFile&)>& edit) const {
    EngineOptions options = Options();
    options.model_path = dir_.file("changed.gguf");
    WriteEdited(path_, options.model_path, edit, "GGUF");
    return MessageOf([&] { OpenedModel{options}; });
  }

  TempDir dir_;
  std::string path_ = dir_.file("all.gguf");
};

TEST_F(TensorTableTest, NamesEveryTensorOfTheFileOnce) {
  std::set<std::string> named;
  for (const ModelTensor& tensor : Tensors(path_)) {
    EXPECT_TRUE(named.insert(tensor.name).second) << tensor.name;
  }
  const GgufReader gguf(path_);
  for (const GgufTensorInfo& tensor : gguf.tensors()) {
    EXPECT_TRUE(named.contains(tensor.name)) << tensor.name;
  }
  EXPECT_TRUE(named.contains("blk.1.attn_output.bias"));
  EXPECT_TRUE(named.contains("rope_freqs.weight"));
}

TEST_F(TensorTableTest, EveryRowIsChecked) {
  EXPECT_EQ(MessageWith([](EditedFile&) {}), "");
  for (const ModelTensor& tensor : Tensors(path_)) {
    SCOPED_TRACE(tensor.name);
    if (tensor.layer > 0) continue;
    const auto one_column_more = [&](EditedFile& file) {
      EditedTensor& edited = file.tensors[tensor.name];
      ++edited.dims[0];
      edited.bytes.resize(edited.bytes.size() + static_cast<size_t>(tensor.rows) * sizeof(float));
    };
    EXPECT_THAT(MessageWith(one_column_more), HasSubstr(tensor.name));
    const auto without = [&](EditedFile& file) {
      file.keys["llama.vocab_size"] = GgufValue::u32(288);  // else the embedding table's
      file.tensors.erase(tensor.name);
    };
    const std::string message = MessageWith(without);
    if (tensor.row->required) {
      EXPECT_THAT(message, HasSubstr(tensor.name));
    } else {
      EXPECT_EQ(message, "");
    }
  }
}

TEST_F(TensorTableTest, EveryRowIsLoaded) {
  const Engine engine(Options());
  const ModelWeights& weights = engine.weights();
  for (const ModelTensor& tensor : Tensors(path_)) {
    SCOPED_TRACE(tensor.name);
    const TensorRow& row = *tensor.row;
    if (row.use == TensorUse::kSetting) {
      EXPECT_EQ(engine.config().rope.freq_divisors.size(), static_cast<size_t>(tensor.cols));
    } else if (tensor.layer == kNoLayer) {
      const void* places[] = {weights.token_embd.data, weights.output_norm.weight,
                              weights.output.w.data};
      const GgufReader& gguf = engine.model().gguf();
      EXPECT_THAT(places, testing::Contains(gguf.TensorData(*gguf.FindTensor(tensor.name))));
    } else {
      const LayerWeights& layer = weights.layers[static_cast<size_t>(tensor.layer)];
      int n_places = 0;
      if (row.vector != nullptr && layer.*row.vector != nullptr) ++n_places;
      if (row.norm != nullptr && (layer.*row.norm).weight != nullptr) ++n_places;
      if (row.norm_bias_of != nullptr && (layer.*row.norm_bias_of).bias != nullptr) ++n_places;
      if (row.matrix != nullptr && (layer.*row.matrix).w.data != nullptr) ++n_places;
      if (row.bias_of != nullptr && (layer.*row.bias_of).bias != nullptr) ++n_places;
      const FfnSlice& slice = layer.slices.front();
      if (row.neuron_vector != nullptr && slice.*row.neuron_vector != nullptr) ++n_places;
      if (row.role == TensorRole::kGate && slice.gate.data != nullptr) ++n_places;
      if (row.role == TensorRole::kUp && slice.up.data != nullptr) ++n_places;
      if (row.role == TensorRole::kDown && slice.down.data != nullptr) ++n_places;
      EXPECT_EQ(n_places, 1);
    }
  }
}

TEST_F(TensorTableTest, EveryRowIsPlanned) {
  const MemoryPlan plan = OpenedModel(Options()).Plan();
  const GgufReader gguf(path_);
  uint64_t model_bytes = 0;
  uint64_t layer_bytes = 0;
  for (const ModelTensor& tensor : Tensors(path_)) {
    if (tensor.row->tier == TensorTier::kNone) continue;
    (tensor.layer == kNoLayer ? model_bytes : layer_bytes) += gguf.FindTensor(tensor.name)->n_bytes;
  }
  EXPECT_EQ(plan.embedding_bytes, model_bytes);
  EXPECT_EQ(plan.attention_bytes() + plan.neuron_bytes(0), layer_bytes);
}

TEST_F(TensorTableTest, EveryRowIsPacked) {
  const GgufReader source(path_);
  const Placement placement = ShuffledPlacement(source.fingerprint(), 2, 96, 0.4);
  WritePlacement(dir_.file("placement.gguf"), placement);
  PackOptions options;
  options.placement_path = dir_.file("placement.gguf");
  PackModel(path_, dir_.file("packed.gguf"), options);
  const GgufReader packed(dir_.file("packed.gguf"));
  for (const ModelTensor& tensor : Tensors(path_)) {
    SCOPED_TRACE(tensor.name);
    if (!tensor.row->in_form(FfnForm::kPacked)) continue;  // in ffn_up_down: pack_test
    const GgufTensorInfo* from = source.FindTensor(tensor.name);
    const GgufTensorInfo* to = packed.FindTensor(tensor.name);
    ASSERT_NE(to, nullptr);
    ASSERT_EQ(to->n_bytes, from->n_bytes);
    const bool moves = tensor.row->has_row_per_neuron() || tensor.row->has_element_per_neuron();
    const size_t n_parts = moves ? 96 : 1;
    const size_t bytes = from->n_bytes / n_parts;
    for (size_t i = 0; i < n_parts; ++i) {
      const auto channel =
          moves ? static_cast<size_t>(
                      placement.layers[static_cast<size_t>(tensor.layer)].neuron_order[i])
                : 0;
      ASSERT_EQ(std::memcmp(packed.TensorData(*to) + i * bytes,
                            source.TensorData(*from) + channel * bytes, bytes),
                0)
          << i;
    }
  }
  EXPECT_EQ(Tensors(dir_.file("packed.gguf")).size(), packed.tensors().size());
}

TEST_F(TensorTableTest, EveryRowIsListedByInspect) {
  const auto json = InspectFile(GgufReader(path_));
  EXPECT_EQ(json["model"]["runs"], true) << json["model"];
  for (const ModelTensor& tensor : Tensors(path_)) {
    SCOPED_TRACE(tensor.name);
    const auto& listed = json["tensors"];
    const auto entry = std::find_if(listed.begin(), listed.end(), [&](const auto& candidate) {
      return candidate["name"] == tensor.name;
    });
    ASSERT_NE(entry, listed.end());
    EXPECT_EQ((*entry)["role"], TensorRoleName(tensor.row->role));
    EXPECT_EQ((*entry)["tier"], TensorTierName(tensor.row->tier));
  }
}

}  // namespace
}  // namespace thermocline
