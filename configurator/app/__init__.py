"""The page: everything that knows Streamlit and Plotly, and the pure functions that feed it."""
