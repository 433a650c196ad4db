namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>Lists of limits by what they say.</summary>
internal sealed class LimitsComparer : IEqualityComparer<IReadOnlyList<RateLimit>>
{
    public static LimitsComparer Instance { get; } = new();

    public bool Equals(IReadOnlyList<RateLimit>? x, IReadOnlyList<RateLimit>? y)
    {
        if (ReferenceEquals(x, y) || x is null || y is null || x.Count != y.Count)
        {
            return ReferenceEquals(x, y);
        }

        // By index: enumerators would be allocated.
        for (int i = 0; i < x.Count; i++)
        {
            if (x[i] != y[i])
            {
                return false;
            }
        }

        return true;
    }

    public int GetHashCode(IReadOnlyList<RateLimit> obj)
    {
        var hash = default(HashCode);
        for (int i = 0; i < obj.Count; i++)
        {
            hash.Add(obj[i]);
        }

        return hash.ToHashCode();
    }
}
