"""The text side of the base: a CLIP tokenizer whose vocabulary comes from the captions, and an untrained CLIP text encoder."""

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 32  # of a caption, start and end included
VOCABULARY = 2700
WIDTH = 128


def train_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """A tokenizer with CLIP's own rules and a byte-pair vocabulary learnt from `captions`; start and end tokens come last, as in CLIP."""
    rules = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = rules.normalizer, rules.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    last = [letter + "</w>" for letter in alphabet]
    learner.train_from_iterator(
        captions,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - 2,
            initial_alphabet=alphabet,
            special_tokens=last,  # else their numbers, by which equally frequent pairs are ordered, come from a hash table
            end_of_word_suffix="</w>",
            show_progress=False,
            min_frequency=2,
        ),
    )
    merges = [(first, second) for first, second in json.loads(learner.to_str())["model"]["merges"]]
    pieces = [*alphabet, *last, *("".join(m) for m in merges), START, END]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained two-layer CLIP text encoder for that tokenizer."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
