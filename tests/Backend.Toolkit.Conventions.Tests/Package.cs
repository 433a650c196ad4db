using System.Reflection;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>A folder under src, and what belongs to it elsewhere.</summary>
internal sealed partial class Package(string name)
{
    private readonly Lazy<Assembly> _assembly = new(() => Assembly.Load(new AssemblyName(name)));

    public string Name => name;

    public string Folder => $"src/{name}";

    public string ProjectPath => $"{Folder}/{name}.csproj";

    public string ReadmePath => $"{Folder}/README.md";

    public string[] Segments => name.Split('.');

    /// <summary>Knows no other package: <c>Backend.Toolkit.X</c>, but for the one that composes them.</summary>
    public bool IsLeaf => Segments.Length == 3 && name != "Backend.Toolkit.Http";

    /// <summary>Puts one package onto one technology: <c>Backend.Toolkit.X.Y</c>.</summary>
    public bool IsAdapter => Segments.Length > 3;

    /// <summary>The package that an adapter is for: its own name without the last segment.</summary>
    public string Parent => name[..name.LastIndexOf('.')];

    /// <summary><c>Backend.Toolkit.CircuitBreakers</c> is shown by <c>samples/circuit-breakers.cs</c>.</summary>
    public string SamplePath => $"samples/{string.Join('-', Segments[2..].Select(segment => InnerCapital().Replace(segment, "-$0"))).ToLowerInvariant()}.cs";

    public XDocument Project => Repository.ReadXml(ProjectPath);

    public IEnumerable<string> ProjectReferences => Project.Descendants("ProjectReference")
        .Select(reference => Path.GetFileNameWithoutExtension(reference.Attribute("Include")!.Value.Replace('\\', '/')));

    public Assembly Assembly => _assembly.Value;

    public IEnumerable<Type> PublicTypes => Assembly.GetExportedTypes();

    /// <summary>Options that can be made; generic ones for objects.</summary>
    public IEnumerable<Type> OptionsTypes => PublicTypes
        .Where(type => type is { IsClass: true, IsAbstract: false } && type.Name.Split('`')[0].EndsWith("Options", StringComparison.Ordinal))
        .Select(type => type.IsGenericType ? type.MakeGenericType(typeof(object)) : type);

    public IEnumerable<string> Sources => Repository.Sources.Where(file => file.StartsWith(Folder + "/", StringComparison.Ordinal));

    /// <summary>The public methods that register something of this package.</summary>
    public IEnumerable<MethodInfo> Registrations => PublicTypes
        .Where(type => type.Name.EndsWith("Extensions", StringComparison.Ordinal))
        .SelectMany(type => type.GetMethods(BindingFlags.Public | BindingFlags.Static | BindingFlags.DeclaredOnly))
        .Where(method => method.Name.StartsWith("Add", StringComparison.Ordinal));

    public override string ToString() => name;

    [GeneratedRegex("(?<!^)[A-Z](?![A-Z])")]
    private static partial Regex InnerCapital();
}
