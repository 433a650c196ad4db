namespace Shop;

/// <summary>What the tour is told on the command line.</summary>
internal sealed record TourOptions(string? Redis, string? Markdown)
{
    private const string Usage = "--tour takes --redis CONNECTION and --markdown FILE";

    /// <returns>Null: no tour is asked for.</returns>
    /// <exception cref="ArgumentException">It makes no sense.</exception>
    public static TourOptions? From(string[] args)
    {
        if (!args.Contains("--tour"))
        {
            return args.Any(arg => arg.Split('=')[0] == "--markdown") ? throw new ArgumentException("--markdown is for --tour: add --tour, or leave it away.") : null;
        }

        string? redis = null, markdown = null;
        string[] all = [.. args.Where(arg => arg != "--tour").SelectMany(arg => arg.StartsWith("--", StringComparison.Ordinal) ? arg.Split('=', 2) : [arg])];
        for (int i = 0; i < all.Length; i += 2)
        {
            string? value = i + 1 < all.Length && all[i + 1].Length > 0 ? all[i + 1] : null;
            switch (all[i])
            {
                case "--redis":
                    redis = value ?? throw new ArgumentException("--redis must be followed by the connection of a Redis, such as localhost:6379.");
                    break;
                case "--markdown":
                    markdown = value ?? throw new ArgumentException("--markdown must be followed by the name of a file, such as tour.md.");
                    break;
                default:
                    throw new ArgumentException($"{Usage}, but was given {all[i]}. Leave that away.");
            }
        }

        return new TourOptions(redis, markdown);
    }
}
