// The verbs of the command line. Each adds itself as a subcommand of `app`; CLI11 calls it back
// when the user names it. A verb returns when it is done and throws otherwise: Error (exit 1),
// CLI::ParseError (2), Interrupted (130, or 128 and the number of the signal that terminates it).
#pragma once

namespace CLI {
class App;
}

namespace thermocline {

void AddRunVerb(CLI::App& app);
void AddProfileVerb(CLI::App& app);
void AddPlaceVerb(CLI::App& app);
void AddPredictorVerb(CLI::App& app);
void AddPackVerb(CLI::App& app);
void AddQuantizeVerb(CLI::App& app);
void AddConvertVerb(CLI::App& app);
void AddBenchVerb(CLI::App& app);
void AddPerplexityVerb(CLI::App& app);
void AddEvalVerb(CLI::App& app);
void AddInspectVerb(CLI::App& app);
void AddCalibrateVerb(CLI::App& app);
void AddTokenizeVerb(CLI::App& app);
void AddSynthVerb(CLI::App& app);
void AddRenderVerb(CLI::App& app);
void AddServeVerb(CLI::App& app);
void AddDraftsVerb(CLI::App& app);

}  // namespace thermocline
