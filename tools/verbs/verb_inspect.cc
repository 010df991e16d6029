#include <memory>

#include "tools/reports/inspect_file.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kInspectDetails =
    R"(FILE is any GGUF file (of a split set, any of its files), or a profile, placement, predictor, draft or
packed model of ours. Prints the kind of file, its metadata (long arrays cut), its tensors with dimensions
(the length of a row first), type and size; of a model also the dimensions as the runtime reads them, whether
this version can run it and if not why, and the memory a run takes; of a placement how many neurons of
each layer lie in which tier. Files whose tensors cannot be computed with are listed, too.

Example:
  thermocline inspect model.gguf
  thermocline inspect model.placement.gguf --json)";

struct InspectArgs {
  std::string path;
  bool json = false;
};

void Inspect(const InspectArgs& args) {
  const GgufReader gguf(args.path);
  const nlohmann::ordered_json inspection = InspectFile(gguf);
  // Names in a file need not be UTF-8, JSON must be.
  constexpr auto kReplace = nlohmann::ordered_json::error_handler_t::replace;
  WriteOutput(args.json ? inspection.dump(2, ' ', false, kReplace) + "\n"
                        : InspectionText(inspection));
}

}  // namespace

void AddInspectVerb(CLI::App& app) {
  const auto args = std::make_shared<InspectArgs>();
  CLI::App* verb = AddVerb(app, "inspect", "Shows what is in a file", kInspectDetails);
  verb->add_option("file,-m,--model", args->path, "File to look at")->required()->type_name("FILE");
  verb->add_flag("--json", args->json, "As JSON: sizes in bytes, every tensor");
  verb->callback([args] { Inspect(*args); });
}

}  // namespace thermocline
