# Lists, attribute sets, packages.
rec {
  inherit (builtins)
    all
    any
    attrNames
    attrValues
    concatLists
    concatMap
    elem
    elemAt
    filter
    foldl'
    functionArgs
    head
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isPath
    isString
    length
    listToAttrs
    mapAttrs
    match
    removeAttrs
    stringLength
    tail
    toJSON
    ;

  last = list: elemAt list (length list - 1);
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalAttrs = condition: set: if condition then set else { };
  remove = value: filter (other: other != value);
  subtractLists = without: filter (value: !elem value without);
  unique = foldl' (found: value: if elem value found then found else found ++ [ value ]) [ ];
  toList = value: if isList value then value else [ value ];
  flatten = value: if isList value then concatMap flatten value else [ value ];
  count =
    predicate: list:
    length (filter predicate list);
  reverseList = list: builtins.genList (i: elemAt list (length list - 1 - i)) (length list);
  sort = builtins.sort;

  nameValuePair = name: value: { inherit name value; };
  genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  mapAttrs' = f: set: listToAttrs (mapAttrsToList f set);
  filterAttrs =
    predicate: set:
    listToAttrs (
      concatMap (name: optional (predicate name set.${name}) (nameValuePair name set.${name})) (
        attrNames set
      )
    );
  concatMapAttrs = f: set: foldl' (a: b: a // b) { } (mapAttrsToList f set);
  zipAttrsWith = builtins.zipAttrsWith;
  recursiveUpdate =
    a: b:
    a
    // mapAttrs (
      name: value:
      if isAttrs value && isAttrs (a.${name} or null) then
        recursiveUpdate a.${name} value
      else
        value
    ) b;

  assertMsg = condition: message: if condition then true else throw message;
  composeExtensions =
    f: g: final: prev:
    let
      first = f final prev;
    in
    first // g final (prev // first);

  isDerivation = value: isAttrs value && value.type or "" == "derivation";
  getOutput =
    output: package:
    package.${output} or package.out or package;
  getLib = getOutput "lib";

  importJSON = path: builtins.fromJSON (builtins.readFile path);
  importTOML = path: builtins.fromTOML (builtins.readFile path);

  makeScope =
    newScope: f:
    let
      self = f self // {
        newScope = scope: newScope (self // scope);
        callPackage = self.newScope { };
        packages = f;
      };
    in
    self;

  # A function's result, which can be asked again with other arguments.
  makeOverridable =
    f: arguments:
    let
      result = f arguments;
      changed = changes: if isFunction changes then changes arguments else changes;
      override = changes: makeOverridable f (arguments // changed changes);
    in
    if isAttrs result then result // { inherit override; } else result;

  callPackageWith =
    scope: f: given:
    let
      function = if isFunction f then f else import f;
      wanted = functionArgs function;
      missing = filter (name: !wanted.${name} && !(scope ? ${name}) && !(given ? ${name})) (
        attrNames wanted
      );
    in
    if missing != [ ] then
      throw "the stub nixpkgs has no ${toString missing}"
    else
      makeOverridable function (builtins.intersectAttrs wanted scope // given);

  licenses = genAttrs [
    "asl20"
    "bsd3"
    "gpl3Only"
    "gpl3Plus"
    "issl"
    "mit"
    "unfreeRedistributable"
  ] (name: { shortName = name; });
  platforms = {
    all = [ "x86_64-linux" ];
    linux = [ "x86_64-linux" ];
  };
  sourceTypes.binaryNativeCode.shortName = "binaryNativeCode";
}
