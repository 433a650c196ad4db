using Microsoft.Data.Sqlite;

namespace Worker;

/// <summary>Where the files are: in the folder that is given, or in a temporary one that goes with this.</summary>
internal sealed class DataFolder : IDisposable
{
    private readonly bool _isTemporary;

    public DataFolder(string? path)
    {
        _isTemporary = path is null;
        Path = _isTemporary ? Directory.CreateTempSubdirectory("worker-").FullName : Directory.CreateDirectory(path!).FullName;
    }

    public string Path { get; }

    public void Dispose()
    {
        SqliteConnection.ClearAllPools();
        if (_isTemporary)
        {
            Directory.Delete(Path, recursive: true);
        }
    }
}
