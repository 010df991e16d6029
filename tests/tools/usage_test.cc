// Everything a user can get wrong: the exit code, one line on stderr that says what, nothing
// half-written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/convert/pack_model.h"
#include "tests/tools/models.h"
#include "tests/tools/tool_process.h"

namespace thermocline {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Case {
  std::string name;
  std::vector<std::string> arguments;  // {} is replaced by the test's directory
  int exit_code;
  std::string message;
};

class UsageTest : public testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() {
    setenv("CUDA_VISIBLE_DEVICES", "", 1);  // a GPU that is here, or emulated, is not seen
    shared_dir = new TempDir;
    const std::string bytes = ReadWholeFile(GoldenModel("gqa_relu"));
    WriteWholeFile(shared_dir->file("truncated.gguf"), bytes.substr(0, bytes.size() / 2));
    WriteWholeFile(shared_dir->file("cut_in_keys.gguf"), bytes.substr(0, 100));
    WriteWholeFile(shared_dir->file("text.gguf"), "this is no model\n");
    WriteWholeFile(shared_dir->file("empty.gguf"), "");
    WriteWholeFile(shared_dir->file("empty.txt"), "\n");
    WriteWholeFile(shared_dir->file("long.txt"), std::string(1000, 'x'));
    WriteShuffledPlacement(GoldenModel("gqa_relu"), shared_dir->file("gqa.placement.gguf"));
    WriteShuffledPlacement(GoldenModel("mha_silu_tied"), shared_dir->file("mha.placement.gguf"));
    std::filesystem::create_directory(shared_dir->file("directory"));
    WriteWholeFile(shared_dir->file("model.gguf"), bytes);
    std::filesystem::create_symlink("model.gguf", shared_dir->file("link.gguf"));
    std::filesystem::create_hard_link(shared_dir->file("model.gguf"),
                                      shared_dir->file("hard.gguf"));
    for (const char* part : {"s-00001-of-00002.gguf", "s-00002-of-00002.gguf"}) {
      WriteWholeFile(shared_dir->file(part), "part of a model");
    }
    WriteBadPackedModels();
  }
  static void TearDownTestSuite() {
    delete shared_dir;
    shared_dir = nullptr;
  }
  // Writes packed models whose second layer's neuron_order names a channel that is not there, or
  // one twice.
  static void WriteBadPackedModels() {
    const std::string placement = shared_dir->file("gqa.placement.gguf");
    PackOptions options;
    options.placement_path = placement;
    PackModel(GoldenModel("gqa_relu"), shared_dir->file("packed.gguf"), options);
    const std::string packed = ReadWholeFile(shared_dir->file("packed.gguf"));
    const std::vector<int32_t> order = ReadPlacement(placement).layers[1].neuron_order;
    const std::string stored(reinterpret_cast<const char*>(order.data()),
                             order.size() * sizeof(int32_t));
    const size_t at = packed.find(stored);
    ASSERT_NE(at, std::string::npos);
    const auto write = [&](const char* name, int32_t last) {
      std::string bytes = packed;
      std::memcpy(bytes.data() + at + stored.size() - sizeof(last), &last, sizeof(last));
      WriteWholeFile(shared_dir->file(name), bytes);
    };
    write("packed_range.gguf", static_cast<int32_t>(order.size()));
    write("packed_twice.gguf", order.front());
  }
  static inline TempDir* shared_dir = nullptr;
};

TEST_P(UsageTest, SaysWhatIsWrong) {
  const Case& c = GetParam();
  std::vector<std::string> arguments = c.arguments;
  for (std::string& argument : arguments) {
    const size_t hole = argument.find("{}");
    if (hole != std::string::npos) argument.replace(hole, 2, shared_dir->path());
  }
  const size_t n_entries = shared_dir->n_entries();
  const ToolResult result = RunTool(arguments);
  EXPECT_EQ(result.exit_code, c.exit_code) << result.err;
  EXPECT_THAT(result.err, HasSubstr(c.message));
  EXPECT_THAT(result.err, StartsWith("thermocline: "));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(shared_dir->n_entries(), n_entries) << "something was left behind";
}

const std::string kUsageModel = GoldenModel("gqa_relu");

std::vector<Case> UsageCases() {
  return {
      {"no_verb", {}, 2, "which verb?"},
      {"unknown_verb", {"fly"}, 2, "no such verb or option: fly"},
      {"unknown_flag", {"run", "-m", kUsageModel, "-p", "a", "--bogus"}, 2, "--bogus"},
      {"no_model", {"run", "-p", "a"}, 2, "--model is required"},
      {"no_prompt", {"run", "-m", kUsageModel}, 2, "-p TEXT, -f FILE or -i"},
      {"raw_chat",
       {"run", "-m", kUsageModel, "-p", "a", "--raw", "-sys", "b"},
       2,
       "--raw continues"},
      {"bad_reasoning",
       {"run", "-m", kUsageModel, "-p", "a", "--reasoning", "x"},
       2,
       "--reasoning"},
      {"chat_without_template",
       {"run", "-m", kUsageModel, "--chat", "-p", "a"},
       1,
       "the model brings no chat template; choose one with --chat-template"},
      {"no_such_template",
       {"run", "-m", kUsageModel, "--chat-template", "none", "-p", "a"},
       1,
       "none: no such chat template: expected a file, or one of chatml"},
      {"long_message",
       {"run", "-m", kUsageModel, "--chat-template", "chatml", "-c", "32", "-f", "{}/long.txt"},
       1,
       "long.txt: the prompt is longer than the context: expected at most 32 tokens"},
      {"two_prompts", {"run", "-m", kUsageModel, "-p", "a", "-f", "b"}, 2, "--file"},
      {"tokenize_two_texts", {"tokenize", "-m", kUsageModel, "-p", "a", "-f", "b"}, 2, "--file"},
      {"tokenize_no_model", {"tokenize", "-p", "a"}, 2, "--model is required"},
      {"bad_context", {"run", "-m", kUsageModel, "-p", "a", "-c", "many"}, 2, "--context"},
      {"bad_temperature", {"run", "-m", kUsageModel, "-p", "a", "--temp", "-1"}, 2, "--temp"},
      {"bad_top_p", {"run", "-m", kUsageModel, "-p", "a", "--top-p", "1.5"}, 2, "--top-p"},
      {"roofline_csv",
       {"bench", "-m", kUsageModel, "--roofline", "-o", "csv"},
       2,
       "--roofline and --parallel go with"},
      {"predicted_alone",
       {"run", "-m", kUsageModel, "-p", "a", "--sparse", "predicted"},
       1,
       "the mode predicted needs a predictor, and the model brings none; build one and give its "
       "file, or try the signs of the gates (`thermocline predictor`, --predictor, --predictor "
       "sign)\n"},
      {"predictor_of_nothing",
       {"run", "-m", kUsageModel, "-p", "a", "--predictor", "{}/text.gguf"},
       1,
       "text.gguf"},
      {"predictor_of_exact",
       {"bench", "-m", kUsageModel, "--predictor", "sign", "--sparse", "exact"},
       1,
       "a predictor is used in mode predicted only: expected predicted, found exact; name no mode, "
       "or no predictor (--sparse, --predictor)\n"},
      {"bad_recall",
       {"run", "-m", kUsageModel, "-p", "a", "--predictor", "sign", "--predictor-recall", "2"},
       2,
       "--predictor-recall"},
      {"predicted_in_large_batches",
       {"perplexity", "-m", kUsageModel, "-f", "{}/long.txt", "--predictor", "sign", "-b", "17"},
       2,
       "-b is at most 16 in mode predicted"},
      {"bad_activations",
       {"run", "-m", kUsageModel, "-p", "a", "--activations", "12"},
       2,
       "--activations: 12 not in {8,16}"},
      {"no_activations", {"perplexity", "-m", kUsageModel, "--activations"}, 2, "--activations"},
      {"bad_sparse", {"run", "-m", kUsageModel, "-p", "a", "--sparse", "some"}, 2, "--sparse"},
      {"bad_pin", {"run", "-m", kUsageModel, "-p", "a", "--pin", "maybe"}, 2, "--pin"},
      {"bad_fast_tier",
       {"run", "-m", kUsageModel, "-p", "a", "--fast-tier", "tpu"},
       2,
       "--fast-tier"},
      {"bad_down_type",
       {"run", "-m", kUsageModel, "-p", "a", "--down-type", "IQ3_S"},
       2,
       "'IQ3_S' is no type that can be written; those are F32, "},
      {"bad_gpu_stream",
       {"run", "-m", kUsageModel, "-p", "a", "--gpu-stream", "maybe"},
       2,
       "--gpu-stream"},
      {"json_alone", {"run", "-m", kUsageModel, "-p", "a", "--json"}, 2, "--dry-run"},
      {"trace_of_no_run",
       {"run", "-m", kUsageModel, "--dry-run", "--trace", "{}/t.json"},
       2,
       "--trace needs a run"},
      {"calibrate_with_rates_and_output",
       {"calibrate", "--rates", "x", "-o", "{}/o.gguf"},
       2,
       "excludes"},
      {"bad_type_of_convert", {"convert", "{}", "{}/o.gguf", "Q9_K"}, 2, "no such type: 'Q9_K'"},
      {"bad_type", {"quantize", kUsageModel, "{}/o.gguf", "Q9_K"}, 2, "no such type: 'Q9_K'"},
      {"read_only_type",
       {"quantize", kUsageModel, "{}/o.gguf", "IQ3_S"},
       2,
       "a type that is read and not written: 'IQ3_S'; known are F32, "},
      {"bad_size",
       {"place", "-m", kUsageModel, "--profile", "x", "--vram", "8Q", "-o", "{}/o.gguf"},
       2,
       "'8Q' is not a size"},
  };
}

std::vector<Case> FileCases() {
  return {
      {"missing_model", {"run", "-m", "{}/none.gguf", "-p", "a"}, 1, "none.gguf: cannot open"},
      {"text_as_model", {"run", "-m", "{}/text.gguf", "-p", "a"}, 1, "text.gguf: "},
      {"empty_model", {"run", "-m", "{}/empty.gguf", "-p", "a"}, 1, "empty.gguf: "},
      {"directory_as_model", {"run", "-m", "{}/directory", "-p", "a"}, 1, "directory: "},
      {"truncated_model", {"run", "-m", "{}/truncated.gguf", "-p", "a"}, 1, "truncated"},
      {"model_cut_in_keys", {"inspect", "{}/cut_in_keys.gguf"}, 1, "truncated"},
      {"placement_as_model",
       {"run", "-m", "{}/gqa.placement.gguf", "-p", "a"},
       1,
       "thermocline-placement"},
      {"model_as_placement",
       {"run", "-m", kUsageModel, "--placement", kUsageModel, "-p", "a"},
       1,
       "gqa_relu.gguf: not a placement file: expected general.architecture thermocline-placement, "
       "found llama; make one for the model (`thermocline profile`, `thermocline place`)\n"},
      {"placement_of_another_model",
       {"run", "-m", kUsageModel, "--placement", "{}/mha.placement.gguf", "-p", "a"},
       1,
       "made for another model: expected fingerprint"},
      {"pack_with_placement_of_another_model",
       {"pack", "-m", kUsageModel, "--placement", "{}/mha.placement.gguf", "-o", "{}/o.gguf"},
       1,
       "made for another model"},
      {"pack_without_placement",
       {"pack", "-m", kUsageModel, "--placement", "{}/none", "-o", "{}/o.gguf"},
       1,
       "none: cannot open"},
      {"convert_no_model", {"convert", "{}/absent", "{}/o.gguf"}, 1, "config.json: cannot read"},
      {"quantize_unwritable",
       {"quantize", kUsageModel, "{}/no/such/dir/o.gguf", "F16"},
       1,
       "cannot write here"},
      {"quantize_into_directory",
       {"quantize", kUsageModel, "{}/directory", "F16"},
       1,
       "directory: "},
      {"quantize_onto_itself",
       {"quantize", kUsageModel, kUsageModel, "F16"},
       1,
       "the output is the input"},
      {"trace_onto_the_model",
       {"run", "-m", "{}/link.gguf", "-p", "a", "--trace", "{}/model.gguf"},
       1,
       "model.gguf: this file is read, and cannot be written at the same time"},
      {"trace_onto_the_models_link",
       {"bench", "-m", "{}/model.gguf", "--trace", "{}/link.gguf"},
       1,
       "link.gguf: this file is read"},
      {"trace_onto_another_name_of_the_model",
       {"run", "-m", "{}/model.gguf", "-p", "a", "--trace", "{}/hard.gguf"},
       1,
       "hard.gguf: this file is read"},
      {"trace_onto_the_placement",
       {"run", "-m", "{}/model.gguf", "-p", "a", "--placement", "{}/gqa.placement.gguf", "--trace",
        "{}/gqa.placement.gguf"},
       1,
       "gqa.placement.gguf: this file is read"},
      {"trace_onto_the_predictor",
       {"run", "-m", "{}/model.gguf", "-p", "a", "--predictor", "{}/text.gguf", "--trace",
        "{}/text.gguf"},
       1,
       "text.gguf: this file is read"},
      {"trace_onto_the_prompt",
       {"run", "-m", "{}/model.gguf", "-f", "{}/long.txt", "--trace", "{}/long.txt"},
       1,
       "long.txt: this file is read"},
      {"trace_onto_the_text",
       {"bench", "-m", "{}/model.gguf", "-f", "{}/long.txt", "--trace", "{}/long.txt"},
       1,
       "long.txt: this file is read"},
      {"trace_onto_a_part_of_the_model",
       {"run", "-m", "{}/s-00001-of-00002.gguf", "-p", "a", "--trace", "{}/s-00002-of-00002.gguf"},
       1,
       "s-00002-of-00002.gguf: this file is read"},
      {"pack_onto_the_placement",
       {"pack", "-m", kUsageModel, "--placement", "{}/gqa.placement.gguf", "-o",
        "{}/gqa.placement.gguf"},
       1,
       "gqa.placement.gguf: this file is read"},
      {"place_into_a_device",
       {"place", "-m", kUsageModel, "--profile", "x", "--vram", "1M", "-o", "/dev/null"},
       1,
       "/dev/null: cannot write here: what is written is read again, and seeking is impossible"},
      {"synth_into_a_device", {"synth", "-o", "/dev/null"}, 1, "seeking is impossible"},
      {"packed_order_out_of_range",
       {"run", "-m", "{}/packed_range.gguf", "-p", "a"},
       1,
       "packed_range.gguf: tensor blk.1.neuron_order: expected I32, each neuron 0 to 95 once"},
      {"packed_order_twice",
       {"run", "-m", "{}/packed_twice.gguf", "-p", "a"},
       1,
       "packed_twice.gguf: tensor blk.1.neuron_order: expected I32, each neuron 0 to 95 once, "
       "found "},
      {"packed_order_out_of_range_predicted",
       {"run", "-m", "{}/packed_range.gguf", "-p", "a", "--predictor", "sign"},
       1,
       "tensor blk.1.neuron_order"},
      {"packed_order_twice_predicted",
       {"run", "-m", "{}/packed_twice.gguf", "-p", "a", "--predictor", "sign"},
       1,
       "tensor blk.1.neuron_order"},
      {"endless_prompt",
       {"run", "-m", kUsageModel, "-f", "/dev/zero"},
       1,
       "/dev/zero: the text is too long: expected at most 16.0 MiB, found more"},
      {"trace_unwritable",
       {"run", "-m", "{}/none.gguf", "-p", "a", "--trace", "{}/no/such/dir/t.json"},
       1,
       "t.json: cannot write here"},
      {"trace_into_directory",
       {"bench", "-m", kUsageModel, "--trace", "{}/directory"},
       1,
       "directory: cannot write here"},
      {"trace_without_a_name", {"bench", "-m", kUsageModel, "--trace", ""}, 1, "cannot write here"},
      {"trace_of_a_run_that_fails",
       {"run", "-m", "{}/none.gguf", "-p", "a", "--trace", "{}/t.json"},
       1,
       "none.gguf: cannot open"},
      {"pack_unwritable",
       {"pack", "-m", kUsageModel, "--placement", "{}/gqa.placement.gguf", "-o", "{}/no/o.gguf"},
       1,
       "cannot write here"},
  };
}

std::vector<Case> RunCases() {
  return {
      {"gpu_layers", {"run", "-m", kUsageModel, "-p", "a", "-ngl", "10"}, 1, "a GPU was asked for"},
      {"gpu_tier",
       {"run", "-m", kUsageModel, "-p", "a", "--fast-tier", "gpu"},
       1,
       "; ask for none, to run on the CPU (--fast-tier, -ngl)\n"},
      {"gpu_stream_without_gpu",
       {"run", "-m", kUsageModel, "-p", "a", "--fast-tier", "cpu", "--gpu-stream", "on"},
       1,
       "weights are to be streamed to a GPU, and the fast tier is none: expected a GPU; make the "
       "GPU "
       "the fast tier, or ask for no streaming (--fast-tier gpu, --gpu-stream)\n"},
      {"tokenize_no_vocabulary",
       {"tokenize", "-m", "{}/gqa.placement.gguf", "-p", "a"},
       1,
       "the file has no vocabulary"},
      {"tokenize_missing_file",
       {"tokenize", "-m", kUsageModel, "-f", "{}/none.txt"},
       1,
       "none.txt: cannot read"},
      {"empty_prompt", {"run", "-m", kUsageModel, "-p", ""}, 1, "the prompt is empty"},
      {"empty_prompt_file",
       {"run", "-m", kUsageModel, "-f", "{}/empty.txt"},
       1,
       "the prompt is empty"},
      {"missing_prompt_file",
       {"run", "-m", kUsageModel, "-f", "{}/none.txt"},
       1,
       "none.txt: cannot read"},
      {"directory_as_prompt", {"run", "-m", kUsageModel, "-f", "{}/directory"}, 1, "cannot read"},
      {"long_prompt",
       {"run", "-m", kUsageModel, "-p", std::string(200, 'x')},
       1,
       "longer than the context: expected at most 128 tokens, found 20"},
      {"long_prompt_file",
       {"run", "-m", kUsageModel, "-f", "{}/long.txt", "-c", "64"},
       1,
       "long.txt: the prompt is longer than the context: expected at most 64 tokens, found 100"},
      {"context_too_large",
       {"run", "-m", kUsageModel, "-p", "a", "-c", "4096"},
       1,
       "the context size: expected 1 to 128, the context the model was made for, found 4096 "
       "(-c)\n"},
      {"exact_without_zeros",
       {"run", "-m", GoldenModel("mha_silu_tied"), "-p", "a", "--sparse", "exact"},
       1,
       "the mode exact needs an activation with true zeros: expected relu, relu_sqr, fatrelu or "
       "drelu, or gates that are cut, found a model with silu; use the mode dense (--sparse "
       "dense)\n"},
  };
}

std::string CaseName(const testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Usage, UsageTest, testing::ValuesIn(UsageCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Files, UsageTest, testing::ValuesIn(FileCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Run, UsageTest, testing::ValuesIn(RunCases()), CaseName);

class HelpTest : public testing::TestWithParam<const char*> {};

TEST_P(HelpTest, IsCompleteAndFitsATerminal) {
  const ToolResult result = RunTool({GetParam(), "--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, HasSubstr("Usage: thermocline " + std::string(GetParam())));
  EXPECT_THAT(result.out, HasSubstr("xample"));
  EXPECT_THAT(result.out, HasSubstr("Exit codes: 0 done, 1 failed"));
  size_t column = 0;
  for (const char c : result.out) {
    column = c == '\n' ? 0 : column + 1;
    EXPECT_LE(column, 110U) << "a line of --help is too long";
  }
  EXPECT_EQ(RunTool({GetParam(), "-h"}).out, result.out);
}

INSTANTIATE_TEST_SUITE_P(Verbs, HelpTest,
                         testing::Values("run", "profile", "predictor", "place", "pack", "quantize",
                                         "bench", "perplexity", "inspect", "synth", "tokenize",
                                         "convert", "calibrate"));

TEST(ProgramTest, ListsItsVerbsAndItsVersion) {
  const ToolResult help = RunTool({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  for (const char* verb : {"run", "profile", "predictor", "place", "pack", "quantize", "bench",
                           "inspect", "tokenize", "convert", "calibrate"}) {
    EXPECT_THAT(help.out, HasSubstr(std::string("\n  ") + verb + " "));
  }
  const ToolResult version = RunTool({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_THAT(version.out, testing::MatchesRegex("thermocline [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

}  // namespace
}  // namespace thermocline
