"""The model families of make_family_goldens.py: a tiny configuration of each, and which options must show in its output."""

import dataclasses

VOCAB_SIZE = 288  # that of tokenizer_bpe and of tokenizer_spm
PAD, BOS, EOS = 0, 1, 2
SPECIAL_IDS = (PAD, BOS, EOS, 286, 287)  # 286 and 287 are <|im_start|> and <|im_end|> of tokenizer_bpe


@dataclasses.dataclass
class Family:
    name: str
    exercises: str  # one line for the README
    model: str  # a class of transformers
    config: dict
    # The same weights run again with these changes of the configuration; each must change the logits (MIN_CHANGE).
    ablations: list = dataclasses.field(default_factory=list)
    embedding: float = 1.0  # standard deviation of the token embeddings
    # Scale of a weight by a part of its name; the first that matches holds. A matrix is divided by sqrt(fan-in) as well.
    gains: dict = dataclasses.field(default_factory=dict)
    bias: float = 0.3  # standard deviation of the biases, also of the norms'
    norm_center: float | None = None  # the mean of the norms' weights, where it is not what transformers starts with
    dtype: str = "float32"  # of the saved weights
    max_shard_size: str = "5GB"
    prompt_lengths: tuple = (40,)
    encoder_lengths: tuple = ()
    generation: dict = dataclasses.field(default_factory=dict)  # more entries of generation_config.json


# d_model 32, four heads of 8 dimensions over two KV heads, d_ff 48: what most families share, under Llama's names.
SMALL = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rope_theta": 500.0,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
}
RMS_EPS = 0.02  # large, so that a wrong epsilon shows
TIED = {"tie_word_embeddings": True}
UNTIED = {"tie_word_embeddings": False}
TIED_EMBEDDING = 0.45  # the logits then have a standard deviation of about 2.5
# Tied models whose residual stream starts with a large embedding repeat their last token unless layers write more to it.
COHERE_GAINS = {"o_proj": 2.5, "down_proj": 3.5}
# An FFN without a gate writes much the same for every token; larger weights and smaller biases make tokens differ.
NO_GATE = {"o_proj": 2.0, "dense_h_to_4h": 2.0, "dense_4h_to_h": 3.0, ".dense.": 2.0, "c_fc": 2.0, "c_proj": 2.5, "fc1": 2.0,
           "out_proj": 2.0, "fc2": 3.0}
GEMMA_POST_NORMS = {"post_attention_layernorm": 1.5, "post_feedforward_layernorm": 1.5}
PHI3_LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5],
    "long_factor": [1.2, 1.9, 3.0, 4.5, 6.0, 8.0],
}


def small(*options, **more):
    config = dict(SMALL)
    for option in options:
        config.update(option)
    config.update(more)
    return config



FAMILIES = [
    Family(
        "llama", "grouped queries, tied embeddings; no biases", "LlamaForCausalLM",
        small(TIED, rms_norm_eps=RMS_EPS),
        [{"rope_theta": 10000.0}, {"rms_norm_eps": 1e-6}, {"hidden_act": "gelu"}],
        embedding=TIED_EMBEDDING,
    ),
    Family(
        "mistral", "a sliding window of 7 in every layer; own lm_head; two shards", "MistralForCausalLM",
        small(UNTIED, rms_norm_eps=RMS_EPS, sliding_window=7, num_hidden_layers=2),
        [{"sliding_window": None}, {"sliding_window": 6}, {"sliding_window": 8}],
        max_shard_size="85KB",
    ),
    Family(
        "qwen2", "biases of q, k and v; the embedding has 8 rows more than there are tokens", "Qwen2ForCausalLM",
        small(TIED, vocab_size=VOCAB_SIZE + 8, rms_norm_eps=RMS_EPS, num_hidden_layers=3, intermediate_size=64),
        [{"rope_theta": 10000.0}], embedding=TIED_EMBEDDING,
        generation={"eos_token_id": [EOS, 287], "do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
                    "repetition_penalty": 1.05},
    ),
    Family(
        "qwen3", "RMS norms of q and k for each head; head_dim 16 where d_model / n_heads is 8; saved as bfloat16",
        "Qwen3ForCausalLM",
        small(UNTIED, head_dim=16, rms_norm_eps=RMS_EPS, num_hidden_layers=3, intermediate_size=80),
        [{"rope_theta": 10000.0}, {"rms_norm_eps": 1e-6}],
        gains={"q_norm": 1.6, "k_norm": 1.4}, dtype="bfloat16",
        generation={"eos_token_id": [287, EOS], "do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95},
    ),
    Family(
        "gemma", "1 + weight of norms, embeddings times sqrt(d_model), head_dim 16, one KV head, gelu (tanh) (Gemma 1)",
        "GemmaForCausalLM",
        small(head_dim=16, num_key_value_heads=1, rms_norm_eps=RMS_EPS),
        [{"hidden_act": "silu"}, {"rms_norm_eps": 1e-6}, {"rope_theta": 10000.0}],
        embedding=TIED_EMBEDDING, gains={"o_proj": 3.0, "down_proj": 4.0},
    ),
    Family(
        "gemma2", "soft caps of attention and of logits, a window of 7 in every other layer, query_pre_attn_scalar 24, "
        "norms before and after, 1 + weight, embeddings times sqrt(d_model), gelu (tanh)", "Gemma2ForCausalLM",
        small(num_hidden_layers=4, head_dim=16, rms_norm_eps=RMS_EPS, sliding_window=7, query_pre_attn_scalar=24,
              attn_logit_softcapping=3.0, final_logit_softcapping=8.0),
        [{"attn_logit_softcapping": None}, {"final_logit_softcapping": None}, {"query_pre_attn_scalar": 16},
         {"sliding_window": 64}, {"sliding_window": 6}, {"sliding_window": 8},
         {"layer_types": ["full_attention", "sliding_attention"] * 2}, {"hidden_activation": "silu"}],
        embedding=TIED_EMBEDDING, gains=GEMMA_POST_NORMS,
    ),
    Family(
        "gemma3", "two layers with a window of 7 to one without, their own RoPE base, linear scaling (4) in the global "
        "ones, q and k norms, query_pre_attn_scalar 24, 1 + weight", "Gemma3ForCausalLM",
        small(num_hidden_layers=4, head_dim=16, rms_norm_eps=RMS_EPS, sliding_window=7, sliding_window_pattern=3,
              query_pre_attn_scalar=24, rope_theta=2000.0, rope_local_base_freq=100.0,
              rope_scaling={"rope_type": "linear", "factor": 4.0}),
        [{"rope_scaling": None}, {"rope_local_base_freq": 2000.0}, {"rope_theta": 100.0},
         {"query_pre_attn_scalar": 16}, {"sliding_window": 64}, {"sliding_window": 6}, {"sliding_window": 8},
         {"layer_types": ["full_attention", "sliding_attention"] * 2}],
        embedding=TIED_EMBEDDING, gains={"q_norm": 0.4, "k_norm": 0.4, **GEMMA_POST_NORMS},
    ),
    Family(
        "gemma3n", "text only: AltUp over 3 streams, Laurel, per-layer embeddings, activation sparsity 0.8 and 0.5 in two "
        "layers, d_ff by layer, the last two layers share KV, windows of 7, q, k and v norms, attention scale 1",
        "Gemma3nForCausalLM",
        small(num_hidden_layers=4, head_dim=8, rms_norm_eps=RMS_EPS, intermediate_size=[48, 64, 48, 48], sliding_window=7,
              layer_types=["sliding_attention", "full_attention"] * 2, num_kv_shared_layers=2,
              vocab_size_per_layer_input=VOCAB_SIZE, hidden_size_per_layer_input=8, altup_num_inputs=3,
              altup_active_idx=0, altup_correct_scale=True, laurel_rank=6, rope_theta=2000.0, rope_local_base_freq=100.0,
              final_logit_softcapping=8.0, activation_sparsity_pattern=[0.8, 0.0, 0.5, 0.0]),
        [{"activation_sparsity_pattern": [0.0] * 4}, {"num_kv_shared_layers": 0}, {"final_logit_softcapping": None},
         {"rope_local_base_freq": 2000.0}, {"rope_theta": 100.0}, {"sliding_window": 64}, {"sliding_window": 6},
         {"sliding_window": 8}, {"altup_correct_scale": False}],
        embedding=TIED_EMBEDDING,
        gains={"q_norm": 0.9, "k_norm": 0.9, "modality_router": 40.0, "prediction_coefs": 0.6, "correction_coefs": 0.6,
               "correct_output_scale": 1.0, "post_attention_layernorm": 2.5, "post_feedforward_layernorm": 2.5},
    ),
    Family(
        "phi3", "fused qkv and gate_up, a sliding window of 11 in every layer", "Phi3ForCausalLM",
        small(UNTIED, num_hidden_layers=2, rms_norm_eps=RMS_EPS, sliding_window=11, original_max_position_embeddings=128),
        [{"sliding_window": None}, {"sliding_window": 10}, {"sliding_window": 12}],
    ),
    Family(
        "phi3_longrope", "LongRoPE with short and long factors, original context 80 (one prompt stays below, one is "
        "longer), 12 of 16 dimensions rotate, tied", "Phi3ForCausalLM",
        small(TIED, num_attention_heads=3, num_key_value_heads=1, hidden_size=48, num_hidden_layers=2, rms_norm_eps=RMS_EPS,
              partial_rotary_factor=0.75, max_position_embeddings=320, original_max_position_embeddings=80,
              rope_scaling=PHI3_LONGROPE),
        [{"rope_scaling": None},
         {"rope_scaling": {**PHI3_LONGROPE, "short_factor": PHI3_LONGROPE["long_factor"]}},
         {"rope_scaling": {**PHI3_LONGROPE, "long_factor": PHI3_LONGROPE["short_factor"]}},
         {"max_position_embeddings": 80}],
        embedding=0.35, prompt_lengths=(40, 96),
    ),
    Family(
        "smollm3", "layers without RoPE (the second and the fourth)", "SmolLM3ForCausalLM",
        small(TIED, num_hidden_layers=4, rms_norm_eps=RMS_EPS, no_rope_layer_interval=2),
        [{"no_rope_layers": [1, 1, 1, 1]}, {"no_rope_layers": [0, 1, 0, 1]}],
        embedding=TIED_EMBEDDING,
    ),
    Family(
        "granite", "multipliers of the embedding (3), of attention (0.5), of the residual (0.7) and of the logits (1 / 1.7)",
        "GraniteForCausalLM",
        small(TIED, rms_norm_eps=RMS_EPS, embedding_multiplier=3.0, attention_multiplier=0.5, residual_multiplier=0.7,
              logits_scaling=1.7),
        [{"embedding_multiplier": 1.0}, {"attention_multiplier": 8.0 ** -0.5}, {"residual_multiplier": 1.0},
         {"logits_scaling": 1.0}],
        embedding=0.7, gains={"o_proj": 3.0, "down_proj": 4.0},
    ),
    Family(
        "olmo2", "norms after attention and FFN only, RMS norms of q and k over their full width", "Olmo2ForCausalLM",
        small(UNTIED, num_hidden_layers=2, rms_norm_eps=RMS_EPS),
        [{"rope_theta": 10000.0}, {"rms_norm_eps": 1e-6}],
        gains={"q_norm": 1.6, "k_norm": 1.4},
    ),
    Family(
        "cohere", "parallel block, LayerNorm without bias, logit_scale 0.4, adjacent RoPE pairs (Command-R)",
        "CohereForCausalLM",
        small(layer_norm_eps=RMS_EPS, logit_scale=0.4),
        [{"logit_scale": 1.0}, {"rope_theta": 10000.0}, {"layer_norm_eps": 1e-6}],
        gains=COHERE_GAINS,
    ),
    Family(
        "cohere_qk", "the same with use_qk_norm: LayerNorms of q and k, weights (heads, head_dim)", "CohereForCausalLM",
        small(layer_norm_eps=RMS_EPS, logit_scale=0.4, use_qk_norm=True),
        [{"use_qk_norm": False}],
        gains={"q_norm": 1.6, "k_norm": 1.4, **COHERE_GAINS},
    ),
    Family(
        "cohere2", "windows of 7 with RoPE in two layers, the third attends to all without RoPE (Command-R7B)",
        "Cohere2ForCausalLM",
        small(num_hidden_layers=4, layer_norm_eps=RMS_EPS, logit_scale=0.4, sliding_window=7, sliding_window_pattern=3),
        [{"sliding_window": 64}, {"sliding_window": 6}, {"sliding_window": 8}, {"layer_types": ["sliding_attention"] * 4},
         {"logit_scale": 1.0}],
        gains=COHERE_GAINS,
    ),
    Family(
        "starcoder2", "LayerNorm with bias, biases everywhere, non-gated FFN, gelu (tanh), a window of 13",
        "Starcoder2ForCausalLM",
        small(TIED, intermediate_size=80, norm_epsilon=RMS_EPS, sliding_window=13, use_bias=True),
        [{"sliding_window": None}, {"sliding_window": 12}, {"sliding_window": 14}, {"norm_epsilon": 1e-6}],
        embedding=TIED_EMBEDDING, bias=0.15, gains=NO_GATE,
    ),
    Family(
        "gpt_neox", "parallel residual with two norms, 4 of 16 dimensions rotate, biases, exact gelu; saved as float16",
        "GPTNeoXForCausalLM",
        dict(vocab_size=VOCAB_SIZE, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=3,
             rotary_pct=0.25, rotary_emb_base=500, max_position_embeddings=128, layer_norm_eps=RMS_EPS,
             use_parallel_residual=True, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS),
        [{"rotary_pct": 0.5}, {"use_parallel_residual": False}, {"rotary_emb_base": 10000}], dtype="float16",
    ),
    Family(
        "gpt_neox_serial", "the same with use_parallel_residual false, half of the dimensions rotate", "GPTNeoXForCausalLM",
        dict(vocab_size=VOCAB_SIZE, hidden_size=32, intermediate_size=80, num_hidden_layers=2, num_attention_heads=2,
             rotary_pct=0.5, rotary_emb_base=500, max_position_embeddings=128, layer_norm_eps=RMS_EPS,
             use_parallel_residual=False, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS),
        [{"rotary_pct": 0.25}, {"use_parallel_residual": True}],
    ),
    Family(
        "gpt2", "learned positions, matrices stored (in, out), fused qkv, gelu (tanh), tied", "GPT2LMHeadModel",
        dict(vocab_size=VOCAB_SIZE, n_embd=32, n_inner=80, n_layer=3, n_head=4, n_positions=128,
             layer_norm_epsilon=RMS_EPS, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS),
        [{"layer_norm_epsilon": 1e-6}, {"activation_function": "relu"}, {"n_head": 2}],
        embedding=TIED_EMBEDDING, bias=0.15, gains=NO_GATE,
    ),
    Family(
        "glm4", "half of the dimensions rotate, in adjacent pairs; norms before and after; biases of q, k and v; "
        "fused gate_up",
        "Glm4ForCausalLM",
        small(UNTIED, head_dim=16, rms_norm_eps=RMS_EPS, num_hidden_layers=2, partial_rotary_factor=0.5, attention_bias=True,
              eos_token_id=[EOS, 287, 286]),
        [{"partial_rotary_factor": 1.0}, {"rms_norm_eps": 1e-6}],
    ),
    Family(
        "opt", "relu, biases, learned positions with an offset of 2, norms before, tied", "OPTForCausalLM",
        dict(vocab_size=VOCAB_SIZE, hidden_size=32, ffn_dim=80, num_hidden_layers=3, num_attention_heads=4,
             max_position_embeddings=128, do_layer_norm_before=True, activation_function="relu", word_embed_proj_dim=32,
             pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS),
        [{"activation_function": "gelu"}, {"do_layer_norm_before": False}],
        embedding=TIED_EMBEDDING, bias=0.15, gains=NO_GATE,
    ),
    Family(
        "falcon", "one KV head, parallel block with one norm (with bias), no other biases, exact gelu, tied (Falcon 7B)",
        "FalconForCausalLM",
        dict(vocab_size=VOCAB_SIZE, hidden_size=32, ffn_hidden_size=80, num_hidden_layers=3, num_attention_heads=4,
             multi_query=True, parallel_attn=True, bias=False, alibi=False, new_decoder_architecture=False,
             layer_norm_epsilon=RMS_EPS, rope_theta=500.0, max_position_embeddings=128, pad_token_id=PAD,
             bos_token_id=BOS, eos_token_id=EOS),
        [{"activation": "relu"}, {"rope_theta": 10000.0}, {"layer_norm_epsilon": 1e-6}],
        embedding=TIED_EMBEDDING, bias=0.15, gains=NO_GATE,
    ),
    Family(
        "falcon40", "new_decoder_architecture: two KV heads, fused qkv by KV head, two norms for the parallel block "
        "(Falcon 40B)",
        "FalconForCausalLM",
        dict(vocab_size=VOCAB_SIZE, hidden_size=32, ffn_hidden_size=80, num_hidden_layers=3, num_attention_heads=4,
             num_kv_heads=2, multi_query=True, parallel_attn=True, bias=False, alibi=False, new_decoder_architecture=True,
             layer_norm_epsilon=RMS_EPS, rope_theta=500.0, max_position_embeddings=128, pad_token_id=PAD,
             bos_token_id=BOS, eos_token_id=EOS),
        [{"rope_theta": 10000.0}],
        embedding=TIED_EMBEDDING, bias=0.15, gains=NO_GATE,
    ),
    Family(
        "falcon_relu", "as falcon40 with relu", "FalconForCausalLM",
        dict(vocab_size=VOCAB_SIZE, hidden_size=32, ffn_hidden_size=80, num_hidden_layers=3, num_attention_heads=4,
             num_kv_heads=2, multi_query=True, parallel_attn=True, bias=False, alibi=False, new_decoder_architecture=True,
             activation="relu", layer_norm_epsilon=RMS_EPS, rope_theta=500.0, max_position_embeddings=128,
             pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS),
        [{"activation": "gelu"}],
        embedding=TIED_EMBEDDING, bias=0.15, gains=NO_GATE,
    ),
    Family(
        "nemotron", "relu(x)^2 without a gate, LayerNorm with 1 + weight and a bias, half of the dimensions rotate",
        "NemotronForCausalLM",
        small(UNTIED, head_dim=8, intermediate_size=80, num_hidden_layers=2, norm_eps=RMS_EPS, partial_rotary_factor=0.5),
        [{"partial_rotary_factor": 1.0}, {"hidden_act": "relu"}, {"norm_eps": 1e-6}],
        norm_center=0.0, gains={"down_proj": 0.9},
    ),
    Family(
        "bitnet", "relu(x)^2 with a gate, norms before o_proj and down_proj; float weights, not quantised",
        "BitNetForCausalLM",
        small(TIED, rms_norm_eps=RMS_EPS),
        [{"hidden_act": "relu"}, {"rms_norm_eps": 1e-6}],
        embedding=TIED_EMBEDDING,
    ),
    Family(
        "minicpm", "own_models.py: multipliers of the embedding (3), of the residual (1.4 / sqrt(layers)) and of the logits "
        "(16 / 32); tied",
        "MiniCPMForCausalLM",
        small(TIED, rms_norm_eps=RMS_EPS, hidden_act="silu", scale_emb=3, scale_depth=1.4, dim_model_base=16),
        [{"scale_emb": 1}, {"scale_depth": 1.0}, {"dim_model_base": 32}, {"rope_theta": 10000.0}],
        embedding=0.7, gains={"o_proj": 3.0, "down_proj": 4.0},
    ),
    Family(
        "minicpm_s", "own_models.py: the same with a FATReLU threshold of 0.05 (MiniCPM-S)", "MiniCPMForCausalLM",
        small(TIED, rms_norm_eps=RMS_EPS, hidden_act="fatrelu", hidden_act_param=0.05, scale_emb=3, scale_depth=1.4,
              dim_model_base=16),
        [{"hidden_act_param": 0.0}, {"hidden_act": "silu"}],
        embedding=0.7, gains={"o_proj": 3.0, "down_proj": 4.0},
    ),
    Family(
        "bamboo", "own_models.py: relu of gate and of up (dReLU), a sliding window of 7 in every layer; own lm_head",
        "BambooForCausalLM",
        small(UNTIED, rms_norm_eps=RMS_EPS, hidden_act="relu", sliding_window=7),
        [{"hidden_act": "silu"}, {"sliding_window": None}, {"sliding_window": 6}, {"sliding_window": 8}],
    ),
    Family(
        "llama_relu", "Llama with hidden_act relu (ReluLLaMA), own lm_head, no grouping", "LlamaForCausalLM",
        small(UNTIED, rms_norm_eps=RMS_EPS, hidden_act="relu", num_key_value_heads=4, num_hidden_layers=2),
        [{"hidden_act": "silu"}],
    ),
    Family(
        "t5", "encoder and decoder, relu, RMS norms, relative positions (8 buckets, distance 20), no scaling of attention, "
        "tied with d_model^-0.5 (T5 1.0)", "T5ForConditionalGeneration",
        dict(vocab_size=VOCAB_SIZE, d_model=32, d_kv=16, d_ff=48, num_layers=3, num_decoder_layers=2, num_heads=3,
             relative_attention_num_buckets=8, relative_attention_max_distance=20, layer_norm_epsilon=RMS_EPS,
             feed_forward_proj="relu", tie_word_embeddings=True, decoder_start_token_id=PAD, pad_token_id=PAD,
             eos_token_id=BOS),
        [{"feed_forward_proj": "gelu"}, {"relative_attention_max_distance": 40}, {"layer_norm_epsilon": 1e-6}],
        embedding=0.8,
        gains={".q.": 0.8, ".k.": 0.8, ".o.": 2.0, "wo.": 3.0, "decoder.final_layer_norm": 3.0},
        prompt_lengths=(12, 1), encoder_lengths=(40, 17),
    ),
    Family(
        "t5_v1_1", "the same with gated gelu (tanh) and an own lm_head, whose input is not scaled (T5 1.1); saved as "
        "bfloat16",
        "T5ForConditionalGeneration",
        dict(vocab_size=VOCAB_SIZE, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_decoder_layers=2, num_heads=3,
             relative_attention_num_buckets=8, relative_attention_max_distance=20, layer_norm_epsilon=RMS_EPS,
             feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=PAD, pad_token_id=PAD,
             eos_token_id=BOS),
        [{"feed_forward_proj": "gated-relu"}, {"relative_attention_max_distance": 40}],
        gains={".q.": 0.8, ".k.": 0.8}, prompt_lengths=(12, 1), encoder_lengths=(40, 17), dtype="bfloat16",
    ),
]
