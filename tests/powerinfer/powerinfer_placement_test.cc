// PowerInfer's .gpuidx files as placements.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "tests/powerinfer/powerinfer_files.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(PowerInferPlacement, HotNeuronsFirstThenTheOthersAscending) {
  const Placement placement = ReadPlacement(Gpuidx());
  EXPECT_TRUE(placement.imported);
  EXPECT_EQ(placement.model_fingerprint, "");
  EXPECT_EQ(placement.vram_budget_bytes, 123456U);
  ASSERT_EQ(placement.layers.size(), 2U);
  const GgufReader gguf(Gpuidx());
  for (size_t l = 0; l < 2; ++l) {
    const LayerPlacement& layer = placement.layers[l];
    EXPECT_EQ(layer.n_on[kVram], l == 0 ? 40 : 17);
    EXPECT_EQ(layer.n_on[kDram], 96 - layer.n_on[kVram]);
    EXPECT_EQ(layer.n_on[kNvme], 0);
    ASSERT_EQ(layer.neuron_order.size(), 96U);
    const TensorView on_gpu = gguf.RequireMatrix("blk." + std::to_string(l) + ".gpu_idx", 1, 96);
    const auto* flags = reinterpret_cast<const int32_t*>(on_gpu.data);
    const auto cold = layer.neuron_order.begin() + layer.n_on[kVram];
    for (auto it = layer.neuron_order.begin(); it != layer.neuron_order.end(); ++it) {
      EXPECT_EQ(flags[*it], it < cold ? 1 : 0) << *it;
    }
    EXPECT_TRUE(std::is_sorted(layer.neuron_order.begin(), cold));
    EXPECT_TRUE(std::is_sorted(cold, layer.neuron_order.end()));
  }
}

// PowerInfer writes a list of length 0 for a layer with nothing on the GPU.
TEST(PowerInferPlacement, ALayerWithNothingOnTheGpu) {
  const std::string path = PowerInferFile("reglu_no_hot_layer.generated.gpuidx");
  const Placement placement = ReadPlacement(path);
  EXPECT_EQ(placement.layers[0].n_on[kVram], 40);
  EXPECT_EQ(placement.layers[1].n_on[kVram], 0);
  EXPECT_EQ(placement.layers[1].n_on[kDram], 96);
  EngineOptions options;
  options.model_path = PowerInferModel("f16");
  options.placement_path = path;
  options.n_threads = 2;
  Engine engine(options);
  EXPECT_FALSE(engine.Feed(std::vector<int32_t>{1, 30, 40}).empty());
}

class BrokenPlacement : public testing::Test {
 protected:
  std::string Message(const std::function<void(EditedFile&)>& edit) {
    WriteEdited(Gpuidx(), dir_.file("p.gpuidx"), edit);
    return MessageOf([&] { ReadPlacement(dir_.file("p.gpuidx")); });
  }
  // Writes the file with one list of ints changed.
  std::string WithInts(const std::string& name,
                       const std::function<void(std::vector<int32_t>&)>& edit) {
    return Message([&](EditedFile& file) {
      std::vector<int32_t> values = file.Ints(name);
      edit(values);
      file.SetInts(name, values);
    });
  }
  TempDir dir_;
};

TEST_F(BrokenPlacement, ValuesOfTheLists) {
  EXPECT_EQ(WithInts("blk.1.gpu_idx", [](auto&) {}), "");
  EXPECT_THAT(WithInts("blk.1.gpu_idx", [](auto& v) { v[7] = 2; }),
              AllOf(HasSubstr("blk.1.gpu_idx"), HasSubstr("expected 0 or 1"),
                    HasSubstr("found 2 for neuron 7")));
  EXPECT_THAT(WithInts("blk.1.gpu_idx", [](auto& v) { v[7] = -1; }), HasSubstr("found -1"));
  EXPECT_THAT(WithInts("blk.0.gpu_bucket", [](auto& v) { v[1] = v[0]; }),
              AllOf(HasSubstr("blk.0.gpu_bucket"), HasSubstr("each id once"), HasSubstr("twice")));
  EXPECT_THAT(WithInts("blk.0.gpu_bucket", [](auto& v) { v[0] = 96; }),
              AllOf(HasSubstr("ids 0 to 95"), HasSubstr("found 96")));
  EXPECT_THAT(WithInts("blk.0.gpu_bucket", [](auto& v) { v[0] = -1; }), HasSubstr("found -1"));
}

TEST_F(BrokenPlacement, ListsThatDoNotAgree) {
  EXPECT_THAT(WithInts("blk.0.gpu_bucket", [](auto& v) { v.pop_back(); }),
              AllOf(HasSubstr("expected 40 ids"), HasSubstr("found 39")));
  EXPECT_THAT(WithInts("blk.0.gpu_idx", [](auto& v) { *std::find(v.begin(), v.end(), 1) = 0; }),
              HasSubstr("which has a 0"));
  EXPECT_THAT(WithInts("blk.0.gpu_bucket", [](auto& v) { v.resize(97, 0); }),
              AllOf(HasSubstr("at most 96 ids"), HasSubstr("found 97")));
  EXPECT_THAT(Message([](EditedFile& file) { file.tensors.erase("blk.1.gpu_bucket"); }),
              AllOf(HasSubstr("blk.1.gpu_bucket"), HasSubstr("17 ids"), HasSubstr("found 0")));
}

TEST_F(BrokenPlacement, LayersAndShapes) {
  EXPECT_THAT(Message([](EditedFile& file) { file.tensors.erase("blk.1.gpu_idx"); }),
              HasSubstr("2 layers, 1 with a gpu_idx"));
  const std::string gap = Message([](EditedFile& file) {
    file.tensors["blk.2.gpu_idx"] = file.tensors["blk.1.gpu_idx"];
    file.tensors.erase("blk.1.gpu_idx");
  });
  EXPECT_THAT(gap, HasSubstr("'blk.1.gpu_idx' is missing"));
  EXPECT_THAT(WithInts("blk.1.gpu_idx", [](auto& v) { v.pop_back(); }),
              AllOf(HasSubstr("blk.1.gpu_idx"), HasSubstr("1 rows of 96")));
  EXPECT_THAT(Message([](EditedFile& file) { file.tensors["blk.0.gpu_idx"].dtype = DType::kF32; }),
              AllOf(HasSubstr("blk.0.gpu_idx"), HasSubstr("I32"), HasSubstr("found F32")));
}

// A file without PowerInfer's magic is no placement, and a model that has the magic is none.
TEST_F(BrokenPlacement, OtherFiles) {
  WriteEdited(
      Gpuidx(), dir_.file("p"), [](EditedFile&) {}, "GGUF");
  EXPECT_THAT(MessageOf([&] { ReadPlacement(dir_.file("p")); }), HasSubstr("not a placement file"));
  EXPECT_THAT(MessageOf([] { ReadPlacement(PowerInferModel("f16")); }),
              HasSubstr("not a placement file"));
}

TEST_F(BrokenPlacement, OfAModelOfAnotherShape) {
  const auto message = [&](const std::string& golden) {
    EngineOptions options;
    options.model_path = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/" + golden + ".gguf";
    options.placement_path = Gpuidx();
    return MessageOf([&] { OpenedModel opened(options); });
  };
  EXPECT_THAT(message("rope_yarn"),
              AllOf(HasSubstr("2 layers of 48 neurons"), HasSubstr("2 layers of 96")));
  EXPECT_EQ(message("gqa_relu"), "") << "no fingerprint to compare: any model of this shape";
}

}  // namespace
}  // namespace thermocline
