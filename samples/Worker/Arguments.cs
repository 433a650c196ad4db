namespace Worker;

/// <param name="Data">The folder that keeps the files; null for a temporary one.</param>
/// <param name="Forever">Whether a batch follows a batch.</param>
/// <param name="Settings">Each as <c>--Section:name=value</c>.</param>
internal sealed record Arguments(string? Data, bool Forever, string[] Settings)
{
    /// <summary>What is misspelt is refused here: the configuration would not read it, and say nothing.</summary>
    public static Arguments Parse(string[] args)
    {
        string? data = null;
        bool forever = false;
        List<string> settings = [];
        for (int i = 0; i < args.Length; i++)
        {
            switch (args[i])
            {
                case "--tour":
                    break;
                case "--forever":
                    forever = true;
                    break;
                case "--data":
                    data = Folder(++i < args.Length ? args[i] : "");
                    break;
                case var given when given.StartsWith("--data=", StringComparison.Ordinal):
                    data = Folder(given["--data=".Length..]);
                    break;
                case var setting when WorkerApplication.IsSetting(setting):
                    settings.Add(setting);
                    break;
                case var unknown:
                    throw new ArgumentException($"The arguments must be --tour, --forever, --data FOLDER or --Section:name=value, but one is {unknown}.");
            }
        }

        return new Arguments(data, forever, [.. settings]);
    }

    private static string Folder(string value) =>
        value.Length > 0 && !value.StartsWith("--", StringComparison.Ordinal) ? value : throw new ArgumentException("--data must be followed by a folder.");
}
