namespace Shop;

/// <summary>What may stand on the command line: a name that is mistyped would otherwise be passed over in silence.</summary>
internal static class Arguments
{
    private static readonly string[] WithValue =
    [
        "--urls", "--data", "--postgres", "--export", "--redis", "--nodes", "--payments", "--customer", "--payments-secret", "--customer-secret", "--only", "--shops", "--plain", "--environment",
    ];

    /// <exception cref="ArgumentException">There is one that means nothing here, or one without its value.</exception>
    public static void Check(string[] args)
    {
        for (int i = 0; i < args.Length; i++)
        {
            string name = args[i].Split('=', 2)[0];
            bool hasValue = args[i].Length > name.Length;
            if (name == "--otlp")
            {
                i += !hasValue && i + 1 < args.Length && !args[i + 1].StartsWith('-') ? 1 : 0;
                continue;
            }

            // One with a colon is a setting of appsettings.json.
            if (!WithValue.Contains(name, StringComparer.OrdinalIgnoreCase) && !(name.StartsWith("--", StringComparison.Ordinal) && name.Contains(':', StringComparison.Ordinal)))
            {
                throw new ArgumentException($"{args[i]} is no argument. There are {string.Join(", ", WithValue)}, --otlp, --tour and --markdown, and settings such as --RequestBudget:Maximum=00:00:05; samples/Shop/README.md tells what they mean.");
            }

            if (!hasValue && (++i == args.Length || args[i].StartsWith("--", StringComparison.Ordinal)))
            {
                throw new ArgumentException($"{name} needs a value.");
            }
        }
    }
}
