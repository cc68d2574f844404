-- A row is an image that is ok, with the settings that it was made with.
SELECT cell.model, cell.prompt, cell_image.seed, image.pixels, cell.guidance_scale, cell.num_inference_steps,
    cell.height, cell.width, cell.scheduler, cell.negative_prompt
FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
JOIN image ON image.id = cell_image.image
WHERE cell.study = ? AND cell.current AND image.status = 'ok' ORDER BY cell.position, cell_image.seed
