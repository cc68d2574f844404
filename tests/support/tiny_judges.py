"""Judges of photographs of random weights, built from configurations and saved as real ones are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tiny_tokenizers import WORDS, byte_pairs, write_clip

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>")
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _bert(folder: Path) -> int:
    """A WordPiece vocabulary of words and letters as `vocab.txt`; its size."""
    from transformers import BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = [*dict.fromkeys(WORDS.split()), "yes", "no", *letters, *(f"##{letter}" for letter in letters), *"?.,'\""]
    vocabulary = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return len(vocabulary)


@cache
def tiny_blip(seed: int = 0) -> Path:
    """BLIP with a head for questions: 32 pixels, patches of 16."""
    import torch
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForQuestionAnswering,
        BlipImageProcessor,
        BlipProcessor,
    )

    from judges import folder_of_this_session

    folder = folder_of_this_session()
    size = _bert(folder)
    small = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**small, "vocab_size": size, "max_position_embeddings": 64, "encoder_hidden_size": 32, "projection_dim": 16}
    text |= {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    vision = {**small, "image_size": 32, "patch_size": 16, "projection_dim": 16}
    torch.manual_seed(seed)
    model = BlipForQuestionAnswering(BlipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.4 * torch.randn_like(weights))
    model.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(images, BertTokenizerFast.from_pretrained(folder)).save_pretrained(folder)
    return folder


@cache
def tiny_vlm(seed: int = 0) -> Path:
    """LLaVA: a CLIP vision tower of 32 pixels before a small Llama, with a chat template."""
    import torch
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        Qwen2TokenizerFast,
    )

    from judges import folder_of_this_session

    folder = folder_of_this_session()
    vocabulary, merges = byte_pairs()
    tokenizer = Qwen2TokenizerFast(vocab=dict(vocabulary), merges=list(merges))
    tokenizer.add_tokens(list(MARKS), special_tokens=True)
    tokenizer.pad_token, tokenizer.eos_token = MARKS[0], MARKS[2]
    small = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = CLIPVisionConfig(**small, image_size=32, patch_size=16, projection_dim=16)
    text = LlamaConfig(**small, num_key_value_heads=2, vocab_size=len(tokenizer), max_position_embeddings=256)
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.convert_tokens_to_ids("<image>")
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    model.save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        chat_template=CHAT,
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(folder)
    return folder


@cache
def tiny_qwen() -> Path:
    """Qwen2-VL: positions in three dimensions, pictures of any shape."""
    import torch
    from transformers import (
        Qwen2TokenizerFast,
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    from judges import folder_of_this_session

    folder = folder_of_this_session()
    vocabulary, merges = byte_pairs()
    tokenizer = Qwen2TokenizerFast(vocab=dict(vocabulary), merges=list(merges))
    marks = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer.add_tokens([*MARKS[:3], *marks], special_tokens=True)
    tokenizer.pad_token, tokenizer.eos_token = MARKS[0], MARKS[2]
    start, end, image, video = (tokenizer.convert_tokens_to_ids(mark) for mark in marks)
    text = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 512}
    text |= {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
    text |= {"bos_token_id": 0, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 8, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(config)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    model.save_pretrained(folder)
    sizes = {"patch_size": 8, "merge_size": 2, "size": {"shortest_edge": 256, "longest_edge": 4096}}
    chat = CHAT.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**sizes), tokenizer, Qwen2VLVideoProcessor(**sizes), chat_template=chat
    )
    processor.save_pretrained(folder)
    return folder


@cache
def tiny_owl(seed: int = 0) -> Path:
    """OWLv2 at 32 pixels, patches of 8: 16 boxes."""
    import torch
    from transformers import (
        CLIPTokenizerFast,
        Owlv2Config,
        Owlv2ForObjectDetection,
        Owlv2ImageProcessor,
        Owlv2Processor,
    )

    from judges import folder_of_this_session

    folder = folder_of_this_session()
    words = write_clip(folder)
    small = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**small, "vocab_size": words, "max_position_embeddings": 16, "pad_token_id": 0}
    text |= {"bos_token_id": words - 2, "eos_token_id": words - 1}
    vision = {**small, "image_size": 32, "patch_size": 8}
    torch.manual_seed(seed)
    model = Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=32))
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    model.save_pretrained(folder)
    images = Owlv2ImageProcessor(size={"height": 32, "width": 32})
    Owlv2Processor(images, CLIPTokenizerFast.from_pretrained(folder, model_max_length=16)).save_pretrained(folder)
    return folder


@cache
def tiny_dino(seed: int = 0) -> Path:
    """Grounding DINO on a small Swin and a small BERT."""
    import torch
    from transformers import (
        BertConfig,
        BertTokenizerFast,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    from judges import folder_of_this_session

    folder = folder_of_this_session()
    size = _bert(folder)
    swin = SwinConfig(
        image_size=64,
        patch_size=2,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
        out_indices=[2, 3, 4],
    )
    text = BertConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    config = GroundingDinoConfig(
        backbone_config=swin,
        text_config=text,
        num_queries=12,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_feature_levels=4,
        encoder_n_points=2,
        decoder_n_points=2,
        max_text_len=32,
    )
    torch.manual_seed(seed)
    model = GroundingDinoForObjectDetection(config)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    model.save_pretrained(folder)
    images = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(images, BertTokenizerFast.from_pretrained(folder)).save_pretrained(folder)
    return folder
