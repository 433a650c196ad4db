namespace Backend.Toolkit.Pagination;

/// <summary>A secret under which cursors are sealed. In configuration: <c>{ "Id": 1, "Secret": "base64…" }</c>.</summary>
public sealed class CursorKey
{
    /// <summary>A key without a secret yet.</summary>
    public CursorKey()
    {
    }

    /// <summary>A key.</summary>
    /// <param name="id">0 to 255.</param>
    /// <param name="secret">At least 32 random bytes.</param>
    public CursorKey(int id, byte[] secret)
    {
        Id = id;
        Secret = secret;
    }

    /// <summary>Which key this is; written into each cursor. 0 to 255, each once.</summary>
    public int Id { get; set; }

    /// <summary>At least 32 random bytes.</summary>
    public byte[] Secret { get; set; } = [];
}
