"""How weatherlake is deployed: recipes, registration with Prefect, images and templates."""
