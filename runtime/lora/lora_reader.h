// The two forms of adapter files, tensor by tensor, and how their tensors become a LoraFile's.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/lora/lora_file.h"
#include "runtime/model/hf_import.h"

namespace thermocline {

class LoraReader {
 public:
  LoraReader(const ModelConfig& config, const Family& family, double user_scale, LoraFile* file);

  void ReadGguf();
  void ReadPeft();
  // From memory, which must outlive the file.
  void ReadGguf(std::span<const std::byte> bytes);
  void ReadPeft(std::string_view config, std::span<const std::byte> weights);

 private:
  // A module of the model that the adapter names, and its two factors.
  struct Module {
    std::string name;  // as the file says it, for messages
    std::string stem;  // "attn_q", "attn_qkv", ...
    int64_t layer = 0;
    HfTransform transform = HfTransform::kNone;  // of the base's rows
    TensorView a;
    TensorView b;
  };
  // Which of a module's rows are those of a target.
  struct Part {
    LoraTarget target;
    int64_t first_row;
  };

  [[noreturn]] void Fail(std::string what, std::string expected, std::string found,
                         std::string hint = "") const;
  void PutGguf();
  void PutPeft(const nlohmann::json& config, std::span<const std::byte> weights);
  // Returns the module behind a PEFT name without ".lora_A.weight". Throws Error for one that is
  // not known.
  Module FindModule(const std::string& name) const;
  // Adds one factor to its module. Throws Error for one that is there.
  void AddFactor(Module module, bool is_a, const TensorView& factor);
  // Checks the modules and puts them in the file. alpha_scale(rank): the scale but for the user's.
  void Finish(const std::function<double(int64_t)>& alpha_scale);
  void CheckComputed(const Module& module, LoraTarget target) const;
  void PutModule(const Module& module, double scale);
  std::vector<Part> PartsOf(const Module& module) const;

  const ModelConfig& config_;
  const Family& family_;
  double user_scale_;
  LoraFile& file_;
  std::map<std::pair<int64_t, std::string>, Module> modules_;  // by layer and stem
};

}  // namespace thermocline
